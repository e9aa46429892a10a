package wire

import (
	"bytes"
	"encoding/json"
	"fmt"
)

// JSON is the payload of a value: JSON, which ends with a NUL byte. A nil value is no payload.
func JSON(value any) ([]byte, error) {
	if value == nil {
		return nil, nil
	}
	payload, err := json.Marshal(value)
	if err != nil {
		return nil, fmt.Errorf("encode %T: %w", value, err)
	}
	return append(payload, 0), nil
}

// Text is the payload of a text, which ends with a NUL byte.
func Text(text string) []byte {
	return append([]byte(text), 0)
}

// Unterminated is a payload of JSON or text without the NUL byte that ends it.
func Unterminated(payload []byte) []byte {
	return bytes.TrimSuffix(payload, []byte{0})
}
