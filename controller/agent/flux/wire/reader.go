package wire

import (
	"encoding/binary"
	"fmt"
	"io"
)

// chunk is how much room is made at first for a message that says that it is long: what a peer promises is not yet there.
const chunk = 64 << 10

// TooLongError says that a message is longer than its reader takes. What follows it on the stream cannot be read either.
type TooLongError struct {
	// Size and Limit are in bytes.
	Size, Limit int64
}

// Error names both sizes.
func (e *TooLongError) Error() string {
	return fmt.Sprintf("a Flux message of %d bytes is longer than the limit of %d", e.Size, e.Limit)
}

// Reader reads messages from a stream. A read that fails because its time is over can be tried again: nothing is lost of a message
// that has come in part.
type Reader struct {
	from  io.Reader
	limit int

	// buffered is what has been read of the stream and not yet taken: buffered[begin:end].
	buffered   []byte
	begin, end int
}

// NewReader reads from a stream messages of at most limit bytes each.
func NewReader(from io.Reader, limit int) *Reader {
	return &Reader{from: from, limit: limit, buffered: make([]byte, 4<<10)}
}

// Next is the next message. It is io.EOF where the stream ends between two messages and io.ErrUnexpectedEOF where it ends within
// one; a *FormatError or *TooLongError where what comes is not a message that can be read, after which nothing can be; or the
// error of the stream.
func (r *Reader) Next() (*Message, error) {
	if err := r.fill(streamHeader); err != nil {
		return nil, err
	}
	header := r.buffered[r.begin:]
	if magic := binary.NativeEndian.Uint32(header); magic != streamMagic {
		return nil, &FormatError{Problem: fmt.Sprintf("it begins with 0x%08x and not with 0x%08x", magic, uint32(streamMagic))}
	}
	size := int64(binary.BigEndian.Uint32(header[4:]))
	if size > int64(r.limit) {
		return nil, &TooLongError{Size: size, Limit: int64(r.limit)}
	}
	whole := streamHeader + int(size)
	if err := r.fill(whole); err != nil {
		return nil, err
	}
	m, err := Decode(r.buffered[r.begin+streamHeader : r.begin+whole])
	r.begin += whole
	if r.begin == r.end && len(r.buffered) > chunk {
		// A long one came once. It is not kept.
		r.buffered, r.begin, r.end = make([]byte, 4<<10), 0, 0
	}
	return m, err
}

// fill reads until there are size bytes.
func (r *Reader) fill(size int) error {
	for r.end-r.begin < size {
		if r.begin > 0 && (r.begin == r.end || r.begin+size > len(r.buffered)) {
			r.end = copy(r.buffered, r.buffered[r.begin:r.end])
			r.begin = 0
		}
		if r.end == len(r.buffered) {
			grown := make([]byte, min(size, max(2*len(r.buffered), chunk)))
			copy(grown, r.buffered[:r.end])
			r.buffered = grown
		}
		read, err := r.from.Read(r.buffered[r.end:])
		r.end += read
		if err == nil || r.end-r.begin >= size {
			continue
		}
		if err == io.EOF && r.end > r.begin {
			return io.ErrUnexpectedEOF
		}
		return err
	}
	return nil
}
