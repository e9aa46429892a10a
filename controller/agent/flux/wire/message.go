package wire

import "fmt"

// Type says what a message is for.
type Type uint8

// The types of messages.
const (
	// Request asks a service for something.
	Request Type = 1
	// Response answers a request.
	Response Type = 2
	// Event is published to all that subscribed to its topic.
	Event Type = 4
	// Control passes between brokers. A program never sees one, and passes over it when it does.
	Control Type = 8
)

// String is the name of a type, for messages to people.
func (t Type) String() string {
	switch t {
	case Request:
		return "request"
	case Response:
		return "response"
	case Event:
		return "event"
	case Control:
		return "control"
	default:
		return fmt.Sprintf("type %d", uint8(t))
	}
}

// Flags say which parts a message has and how it is to be treated.
type Flags uint8

// The flags. HasTopic, HasPayload and HasRoute are set and read by the codec alone: a message has a topic when Topic is not
// empty, a payload when Payload is not nil, and a route when it has the flag or Routes.
const (
	// HasTopic says that there is a topic.
	HasTopic Flags = 0x01
	// HasPayload says that there is a payload, which may be empty.
	HasPayload Flags = 0x02
	// NoResponse asks for no response.
	NoResponse Flags = 0x04
	// HasRoute says that the message has routes, of which there may be none, and the empty part that ends them.
	HasRoute Flags = 0x08
	// Upstream asks that the request pass over the rank in NodeID, which is the sender's.
	Upstream Flags = 0x10
	// Private keeps an event from users other than its sender and the owner of the instance.
	Private Flags = 0x20
	// Streaming marks a request that may have several responses, and each of these but the last.
	Streaming Flags = 0x40
)

// What a program writes into a request, because the broker fills in the truth.
const (
	// AnyRank lets the nearest broker that has the service answer.
	AnyRank uint32 = 0xffffffff
	// UnknownUser stands for the user of the socket, whom the broker knows.
	UnknownUser uint32 = 0xffffffff
)

// Message is one message. Which of NodeID, Errno and Sequence it has depends on its type; the others are zero.
type Message struct {
	Type  Type
	Flags Flags
	// UserID and Roles are those of the sender, as the broker knows them.
	UserID uint32
	Roles  uint32
	// NodeID is the rank that a request is for, or AnyRank.
	NodeID uint32
	// Errno is zero in a response that brings what was asked for, and the number of an error of Linux otherwise.
	Errno uint32
	// Sequence numbers events.
	Sequence uint32
	// Tag pairs a response with its request. It is unique among the requests of one connection; 0 pairs with nothing.
	Tag uint32
	// ControlType and ControlStatus belong to control messages.
	ControlType   uint32
	ControlStatus uint32
	// Routes are the sockets that the message came through.
	Routes []string
	// Topic names the service and its method, or what an event is about.
	Topic string
	// Payload is what the topic says it is: nil for none. JSON and text end with a NUL byte.
	Payload []byte
}

// second is the last number of the header.
func (m *Message) second() uint32 {
	switch m.Type {
	case Request, Response:
		return m.Tag
	case Control:
		return m.ControlStatus
	default:
		return 0
	}
}

// first is the last number but one of the header.
func (m *Message) first() uint32 {
	switch m.Type {
	case Request:
		return m.NodeID
	case Response:
		return m.Errno
	case Event:
		return m.Sequence
	default:
		return m.ControlType
	}
}

// setNumbers is the reverse of first and second.
func (m *Message) setNumbers(first, second uint32) {
	switch m.Type {
	case Request:
		m.NodeID, m.Tag = first, second
	case Response:
		m.Errno, m.Tag = first, second
	case Event:
		m.Sequence = first
	default:
		m.ControlType, m.ControlStatus = first, second
	}
}
