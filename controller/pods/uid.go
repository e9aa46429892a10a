package pods

import (
	"encoding/hex"

	"k8s.io/apimachinery/pkg/types"
)

// identity is a UID in less memory than its text takes: those of API servers are UUIDs. Others are kept as they are.
type identity struct {
	bytes [16]byte
	text  types.UID
}

// uuidLength is that of the text of a UUID.
const uuidLength = 36

func identityOf(uid types.UID) identity {
	var id identity
	if len(uid) == uuidLength {
		digits := string(uid[:8] + uid[9:13] + uid[14:18] + uid[19:23] + uid[24:])
		if _, err := hex.Decode(id.bytes[:], []byte(digits)); err == nil && id.bytes != [16]byte{} && id.uid() == uid {
			return id
		}
	}
	return identity{text: uid}
}

func (id *identity) uid() types.UID {
	if id.bytes == [16]byte{} {
		return id.text
	}
	var digits [32]byte
	hex.Encode(digits[:], id.bytes[:])
	text := make([]byte, 0, uuidLength)
	for i, end := range []int{8, 12, 16, 20, 32} {
		if i > 0 {
			text = append(text, '-')
		}
		text = append(text, digits[end-[]int{8, 4, 4, 4, 12}[i]:end]...)
	}
	return types.UID(text)
}
