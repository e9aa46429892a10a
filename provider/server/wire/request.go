package wire

import (
	"bytes"
	"cmp"
	"fmt"
	"runtime"
	"slices"
	"sync"
	"unicode/utf8"

	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/proto/expander"
)

// The numbers of the fields in proto/expander/expander.proto.
const (
	fieldOptions protowire.Number = 1

	fieldNodeGroupID protowire.Number = 1
	fieldNodeCount   protowire.Number = 2
	fieldDebug       protowire.Number = 3
	fieldLegacyPod   protowire.Number = 4
	fieldPodBytes    protowire.Number = 5
)

const (
	// longestPrefix is the greatest length of a tag and the length of what follows, in bytes.
	longestPrefix = 2 * 10
	// longestHead is how far into an option its pods are looked for, in bytes.
	longestHead = 4096
	// manyBytes is the size of a request from which on it is worth it to read it with all cores.
	manyBytes = 1 << 20
)

// readRequest reads a request.
func readRequest(data mem.BufferSlice, into *expander.BestOptionsRequest) error {
	into.Reset()
	encoded, err := splitRequest(data)
	if err != nil {
		return err
	}
	into.Options = make([]*expander.Option, len(encoded))
	part := len(encoded)
	if data.Len() >= manyBytes {
		part = (part + runtime.GOMAXPROCS(0) - 1) / runtime.GOMAXPROCS(0)
	}
	var readers sync.WaitGroup
	errs := make([]error, len(encoded))
	for from := 0; from < len(encoded); from += part {
		readers.Go(func() {
			r := &optionReader{lists: map[listKey]*podList{}}
			for i := from; i < min(from+part, len(encoded)); i++ {
				if into.Options[i], errs[i] = r.read(encoded[i]); errs[i] != nil {
					errs[i] = fmt.Errorf("options[%d]: %w", i, errs[i])
					return
				}
			}
		})
	}
	readers.Wait()
	return cmp.Or(errs...)
}

// splitRequest finds the options of a request. They are in the pieces in which they were received, and not copied.
func splitRequest(data mem.BufferSlice) ([][][]byte, error) {
	var options [][][]byte
	r := data.Reader()
	defer r.Close() //nolint:errcheck // It cannot fail.
	var next [][]byte
	for r.Remaining() > 0 {
		next, _ = r.Peek(min(longestPrefix, r.Remaining()), next[:0])
		p, err := readPrefix(begin(next, longestPrefix))
		if err != nil {
			return nil, err
		}
		_, _ = r.Discard(p.size)
		if p.length > uint64(r.Remaining()) { //nolint:gosec // It is not negative.
			return nil, fmt.Errorf("field %d has %d bytes, but only %d are left", p.number, p.length, r.Remaining())
		}
		if p.number == fieldOptions && p.kind == protowire.BytesType {
			option, _ := r.Peek(int(p.length), nil) //nolint:gosec // It is not above what remains.
			options = append(options, option)
		}
		_, _ = r.Discard(int(p.length)) //nolint:gosec // It is not above what remains.
	}
	return options, nil
}

// prefix is what comes before the contents of a field: its tag, and their length or, where all such fields are as long,
// themselves.
type prefix struct {
	number protowire.Number
	kind   protowire.Type
	// size is the number of bytes of the prefix, length that of the contents after it.
	size   int
	length uint64
}

func readPrefix(encoded []byte) (prefix, error) {
	number, kind, tag := protowire.ConsumeTag(encoded)
	if tag < 0 {
		return prefix{}, fmt.Errorf("read a tag: %w", protowire.ParseError(tag))
	}
	p := prefix{number: number, kind: kind}
	var size int
	if kind == protowire.BytesType {
		p.length, size = protowire.ConsumeVarint(encoded[tag:])
	} else {
		size = protowire.ConsumeFieldValue(number, kind, encoded[tag:])
	}
	if size < 0 {
		return prefix{}, fmt.Errorf("read field %d: %w", number, protowire.ParseError(size))
	}
	p.size = tag + size
	return p, nil
}

// optionReader reads options, one after the other, and knows the lists of pods that it has read.
type optionReader struct {
	lists map[listKey]*podList
}

// listKey is what lists of pods are looked up by. It does not tell all of them apart: they are compared.
type listKey struct {
	field  protowire.Number
	length int
	// begin is how the list begins, which is with the name of its first pod.
	begin [64]byte
}

// podList is the pods that an option ends with.
type podList struct {
	// encoded is all that comes after the tag of the first of them. The pods are parts of it.
	encoded []byte
	pods    [][]byte
}

// read reads an option. One whose fields are not in the order of their numbers, as encoders write them, takes longer.
func (r *optionReader) read(pieces [][]byte) (*expander.Option, error) {
	option := &expander.Option{}
	if r.ordered(pieces, option) {
		return option, nil
	}
	option.Reset()
	if err := proto.Unmarshal(slices.Concat(pieces...), option); err != nil {
		return nil, err //nolint:wrapcheck // Who calls says which one it is.
	}
	return option, nil
}

// ordered reads an option whose pods come last, and reports whether it is one.
func (r *optionReader) ordered(pieces [][]byte, into *expander.Option) bool {
	head := begin(pieces, longestHead)
	for at := 0; at < len(head); {
		number, kind, size := protowire.ConsumeTag(head[at:])
		if size < 0 {
			return false
		}
		at += size
		switch {
		case number == fieldNodeCount && kind == protowire.VarintType:
			var count uint64
			if count, size = protowire.ConsumeVarint(head[at:]); size < 0 {
				return false
			}
			into.NodeCount = int32(count) //nolint:gosec // As the encoding has it: negative ones are sign-extended.
		case number == fieldNodeGroupID && kind == protowire.BytesType, number == fieldDebug && kind == protowire.BytesType:
			var text []byte
			if text, size = protowire.ConsumeBytes(head[at:]); size < 0 || !utf8.Valid(text) {
				return false
			}
			if number == fieldDebug {
				into.Debug = string(text)
			} else {
				into.NodeGroupId = string(text)
			}
		case number == fieldPodBytes && kind == protowire.BytesType:
			into.PodBytes = r.pods(number, after(pieces, at))
			return into.PodBytes != nil
		case number == fieldLegacyPod && kind == protowire.BytesType:
			into.LegacyPod = r.pods(number, after(pieces, at))
			return into.LegacyPod != nil
		default:
			return false
		}
		at += size
	}
	return len(head) == length(pieces)
}

// pods reads the pods that an option ends with, from behind the tag of the first of them on. They are nil if other fields are
// among them.
func (r *optionReader) pods(field protowire.Number, rest [][]byte) [][]byte {
	k := listKey{field: field, length: length(rest)}
	copy(k.begin[:], begin(rest, len(k.begin)))
	if known := r.lists[k]; known != nil && equal(rest, known.encoded) {
		return known.pods
	}
	list := &podList{encoded: slices.Concat(rest...)}
	for left := list.encoded; ; {
		pod, size := protowire.ConsumeBytes(left)
		if size < 0 {
			return nil
		}
		list.pods = append(list.pods, slices.Clip(pod))
		if left = left[size:]; len(left) == 0 {
			break
		}
		number, kind, size := protowire.ConsumeTag(left)
		if size < 0 || number != field || kind != protowire.BytesType {
			return nil
		}
		left = left[size:]
	}
	r.lists[k] = list
	return list.pods
}

// length is that of pieces put together.
func length(pieces [][]byte) int {
	n := 0
	for _, piece := range pieces {
		n += len(piece)
	}
	return n
}

// begin returns the first n bytes of pieces as one, or all of them if there are fewer.
func begin(pieces [][]byte, n int) []byte {
	if len(pieces) > 0 && len(pieces[0]) >= n {
		return pieces[0][:n]
	}
	var out []byte
	for _, piece := range pieces {
		out = append(out, piece[:min(len(piece), n-len(out))]...)
		if len(out) == n {
			break
		}
	}
	return out
}

// after returns what pieces have behind the first n bytes.
func after(pieces [][]byte, n int) [][]byte {
	for i, piece := range pieces {
		if n < len(piece) {
			return append([][]byte{piece[n:]}, pieces[i+1:]...)
		}
		n -= len(piece)
	}
	return nil
}

// equal reports whether pieces, put together, are the same as whole, which is as long.
func equal(pieces [][]byte, whole []byte) bool {
	for _, piece := range pieces {
		if !bytes.Equal(piece, whole[:len(piece)]) {
			return false
		}
		whole = whole[len(piece):]
	}
	return true
}
