package wire

import (
	"encoding/binary"
	"fmt"
	"math"
)

const (
	// streamMagic begins each message on a stream, in the byte order of the host.
	streamMagic = 0xffee0012
	// streamHeader is the length of the magic and the length of the rest.
	streamHeader = 8

	// headerMagic and headerVersion begin the last part of each message.
	headerMagic   = 0x8e
	headerVersion = 1
	// headerSize is the length of the last part.
	headerSize = 20

	// longPart is the length byte that says that the length follows in four bytes.
	longPart = 0xff

	// maxRoutes bounds how many sockets a message came through. Between a program and its broker there are none, and an overlay
	// network of brokers is a few levels deep.
	maxRoutes = 256
)

// FormatError says that bytes are not a message.
type FormatError struct {
	// Problem says what is wrong, and what would be right.
	Problem string
	// Offset is where in the message it is wrong, in bytes after its length.
	Offset int
}

// Error says what is wrong and where.
func (e *FormatError) Error() string {
	return fmt.Sprintf("not a Flux message: %s, at byte %d", e.Problem, e.Offset)
}

func malformed(offset int, format string, args ...any) error {
	return &FormatError{Problem: fmt.Sprintf(format, args...), Offset: offset}
}

// AppendFramed appends a message to what is to be written to a stream. It fails for a message that cannot be written, with the
// field that is wrong.
func AppendFramed(to []byte, m *Message) ([]byte, error) {
	begin := len(to)
	to = binary.NativeEndian.AppendUint32(to, streamMagic)
	to = append(to, 0, 0, 0, 0)
	to, err := Append(to, m)
	if err != nil {
		return to[:begin], err
	}
	size := len(to) - begin - streamHeader
	if size > math.MaxUint32 {
		return to[:begin], fmt.Errorf("a message of %d bytes is too long: at most %d can be said", size, uint32(math.MaxUint32))
	}
	binary.BigEndian.PutUint32(to[begin+4:], uint32(size)) //nolint:gosec // It was just compared.
	return to, nil
}

// Append appends the parts of a message, without what frames it on a stream.
func Append(to []byte, m *Message) ([]byte, error) {
	if err := m.check(); err != nil {
		return to, err
	}
	flags := m.Flags &^ (HasTopic | HasPayload | HasRoute)
	if m.Flags&HasRoute != 0 || len(m.Routes) > 0 {
		flags |= HasRoute
		for _, route := range m.Routes {
			to = appendPart(to, route)
		}
		to = appendPart(to, "")
	}
	if m.Topic != "" {
		flags |= HasTopic
		to = appendPart(to, m.Topic)
	}
	if m.Payload != nil {
		flags |= HasPayload
		to = appendPart(to, m.Payload)
	}
	to = append(to, headerSize, headerMagic, headerVersion, byte(m.Type), byte(flags))
	for _, number := range [...]uint32{m.UserID, m.Roles, m.first(), m.second()} {
		to = binary.BigEndian.AppendUint32(to, number)
	}
	return to, nil
}

func (m *Message) check() error {
	switch m.Type {
	case Request, Response, Event:
		if m.Topic == "" {
			return fmt.Errorf("a %s needs a topic", m.Type)
		}
	case Control:
	default:
		return fmt.Errorf("a message of type %d cannot be sent: it is %d, %d, %d or %d", m.Type, Request, Response, Event, Control)
	}
	if len(m.Routes) > maxRoutes {
		return fmt.Errorf("%d routes: at most %d", len(m.Routes), maxRoutes)
	}
	for i, route := range m.Routes {
		if route == "" {
			return fmt.Errorf("route %d is empty, which would end the routes", i)
		}
	}
	return nil
}

func appendPart[B string | []byte](to []byte, part B) []byte {
	if len(part) < longPart {
		return append(append(to, byte(len(part))), part...) //nolint:gosec // It is less than 255.
	}
	to = append(to, longPart)
	to = binary.BigEndian.AppendUint32(to, uint32(len(part))) //nolint:gosec // AppendFramed refuses a message that is too long.
	return append(to, part...)
}

// Decode reads the parts of a message, without what frames it on a stream. The message keeps no reference to data.
func Decode(data []byte) (*Message, error) {
	// The header is last and says which parts there are, and the parts can only be counted from the front.
	parts, err := split(data)
	if err != nil {
		return nil, err
	}
	last := parts[len(parts)-1]
	m, err := decodeHeader(data, last)
	if err != nil {
		return nil, err
	}
	rest := parts[:len(parts)-1]
	take := func(what string) (part, error) {
		if len(rest) == 0 {
			return part{}, malformed(last.begin, "its flags 0x%02x promise a %s, which is not there", uint8(m.Flags), what)
		}
		first := rest[0]
		rest = rest[1:]
		return first, nil
	}
	if m.Flags&HasRoute != 0 {
		for {
			route, err := take("route")
			if err != nil {
				return nil, err
			}
			if route.begin == route.end {
				break
			}
			if len(m.Routes) == maxRoutes {
				return nil, malformed(route.begin, "more than %d routes", maxRoutes)
			}
			m.Routes = append(m.Routes, string(data[route.begin:route.end]))
		}
	}
	if m.Flags&HasTopic != 0 {
		topic, err := take("topic")
		if err != nil {
			return nil, err
		}
		m.Topic = string(data[topic.begin:topic.end])
	}
	if m.Flags&HasPayload != 0 {
		payload, err := take("payload")
		if err != nil {
			return nil, err
		}
		m.Payload = append(make([]byte, 0, payload.end-payload.begin), data[payload.begin:payload.end]...)
	}
	// Parts between the payload and the header, of which RFC 3 knows none, are passed over, as flux-core does.
	return m, nil
}

// part is where the bytes of one part are.
type part struct{ begin, end int }

// maxParts bounds the parts of one message: its routes, their end, topic, payload, header.
const maxParts = maxRoutes + 4

// split finds the parts. There is at least one.
func split(data []byte) ([]part, error) {
	parts := make([]part, 0, 4)
	for at := 0; at < len(data); {
		begin := at + 1
		size := uint64(data[at])
		if size == longPart {
			if len(data)-begin < 4 {
				return nil, malformed(at, "it ends within the length of a part")
			}
			size = uint64(binary.BigEndian.Uint32(data[begin:]))
			begin += 4
		}
		if uint64(len(data)-begin) < size { //nolint:gosec // begin is at most the length.
			return nil, malformed(at, "a part of %d bytes with only %d left", size, len(data)-begin)
		}
		if len(parts) == maxParts {
			return nil, malformed(at, "more than %d parts", maxParts)
		}
		at = begin + int(size) //nolint:gosec // It is at most what is left of data.
		parts = append(parts, part{begin: begin, end: at})
	}
	if len(parts) == 0 {
		return nil, malformed(0, "it is empty")
	}
	return parts, nil
}

func decodeHeader(data []byte, at part) (*Message, error) {
	header := data[at.begin:at.end]
	switch {
	case len(header) != headerSize:
		return nil, malformed(at.begin, "its last part has %d bytes and not the %d of a header", len(header), headerSize)
	case header[0] != headerMagic:
		return nil, malformed(at.begin, "its header begins with 0x%02x and not with 0x%02x", header[0], headerMagic)
	case header[1] != headerVersion:
		return nil, malformed(at.begin+1, "version %d of the protocol, of which only %d is known", header[1], headerVersion)
	}
	m := &Message{
		Type:   Type(header[2]),
		Flags:  Flags(header[3]),
		UserID: binary.BigEndian.Uint32(header[4:]),
		Roles:  binary.BigEndian.Uint32(header[8:]),
	}
	switch m.Type {
	case Request, Response, Event, Control:
	default:
		return nil, malformed(at.begin+2, "type %d, which is none of %d, %d, %d and %d", m.Type, Request, Response, Event, Control)
	}
	m.setNumbers(binary.BigEndian.Uint32(header[12:]), binary.BigEndian.Uint32(header[16:]))
	return m, nil
}
