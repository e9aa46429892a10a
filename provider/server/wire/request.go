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
func readRequest(data mem.BufferSlice, limits *Limits, into *expander.BestOptionsRequest) error {
	into.Reset()
	encoded, err := splitRequest(data, limits.Options)
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
	count := &counter{limits: limits}
	for from := 0; from < len(encoded); from += part {
		readers.Go(func() {
			r := &optionReader{count: count, lists: map[listKey]*podList{}}
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

// splitRequest finds the options of a request, of which there may be so many. They are in the pieces in which they were received, and
// not copied.
func splitRequest(data mem.BufferSlice, most int) ([][][]byte, error) {
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
			if len(options) == most {
				return nil, Refuse(ReasonOptions, "it has more than %d options (--max-expander-options)", most)
			}
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
	count *counter
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
	if ordered, err := r.ordered(pieces, option); ordered || err != nil {
		return option, cmp.Or(err, checkGroup(option.GetNodeGroupId()))
	}
	option.Reset()
	encoded := slices.Concat(pieces...)
	pods, err := r.count.countPods(encoded)
	if err != nil {
		return nil, err
	}
	if err := r.count.option(pods); err != nil {
		return nil, err
	}
	if err := proto.Unmarshal(encoded, option); err != nil {
		return nil, err //nolint:wrapcheck // Who calls says which one it is.
	}
	return option, checkGroup(option.GetNodeGroupId())
}

// ordered reads an option whose pods come last, and reports whether it is one. The error is that of one whose pods are beyond a limit.
func (r *optionReader) ordered(pieces [][]byte, into *expander.Option) (bool, error) {
	head := begin(pieces, longestHead)
	for at := 0; at < len(head); {
		number, kind, size := protowire.ConsumeTag(head[at:])
		if size < 0 {
			return false, nil
		}
		at += size
		var err error
		switch {
		case number == fieldNodeCount && kind == protowire.VarintType:
			var count uint64
			if count, size = protowire.ConsumeVarint(head[at:]); size < 0 {
				return false, nil
			}
			into.NodeCount = int32(count) //nolint:gosec // As the encoding has it: negative ones are sign-extended.
		case number == fieldNodeGroupID && kind == protowire.BytesType, number == fieldDebug && kind == protowire.BytesType:
			var text []byte
			if text, size = protowire.ConsumeBytes(head[at:]); size < 0 || !utf8.Valid(text) {
				return false, nil
			}
			if number == fieldDebug {
				into.Debug = string(text)
			} else {
				into.NodeGroupId = string(text)
			}
		case number == fieldPodBytes && kind == protowire.BytesType:
			into.PodBytes, err = r.pods(number, after(pieces, at))
			return into.PodBytes != nil, err
		case number == fieldLegacyPod && kind == protowire.BytesType:
			into.LegacyPod, err = r.pods(number, after(pieces, at))
			return into.LegacyPod != nil, err
		default:
			return false, nil
		}
		at += size
	}
	return len(head) == length(pieces), nil
}

// pods reads the pods that an option ends with, from behind the tag of the first of them on. They are nil if other fields are
// among them.
func (r *optionReader) pods(field protowire.Number, rest [][]byte) ([][]byte, error) {
	k := listKey{field: field, length: length(rest)}
	copy(k.begin[:], begin(rest, len(k.begin)))
	if known := r.lists[k]; known != nil && equal(rest, known.encoded) {
		return known.pods, r.count.option(len(known.pods))
	}
	list := &podList{encoded: slices.Concat(rest...)}
	// Counted first: what is made of many small ones would be larger than they are.
	pods := 0
	alone, err := eachPod(field, list.encoded, func(pod []byte) error {
		if pods++; pods > r.count.limits.Pods {
			return r.count.option(pods)
		}
		return checkPod(pod)
	})
	if !alone || err != nil {
		return nil, err
	}
	if err := r.count.option(pods); err != nil {
		return nil, err
	}
	list.pods = make([][]byte, 0, pods)
	_, _ = eachPod(field, list.encoded, func(pod []byte) error {
		list.pods = append(list.pods, slices.Clip(pod))
		return nil
	})
	r.lists[k] = list
	return list.pods, nil
}

// eachPod shows pods that follow each other, from behind the tag of the first of them on, and reports whether there is nothing else.
func eachPod(field protowire.Number, encoded []byte, see func(pod []byte) error) (alone bool, err error) {
	for {
		pod, size := protowire.ConsumeBytes(encoded)
		if size < 0 {
			return false, nil
		}
		if err := see(pod); err != nil {
			return false, err
		}
		if encoded = encoded[size:]; len(encoded) == 0 {
			return true, nil
		}
		number, kind, size := protowire.ConsumeTag(encoded)
		if size < 0 || number != field || kind != protowire.BytesType {
			return false, nil
		}
		encoded = encoded[size:]
	}
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
