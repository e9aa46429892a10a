package wire

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"io"
	"math"
	"os"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

// unhex reads bytes in hexadecimal, with blanks between what belongs together.
func unhex(t testing.TB, text string) []byte {
	t.Helper()
	out, err := hex.DecodeString(strings.Join(strings.Fields(text), ""))
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// messages are written by hand from RFC 3: its grammar of PROTO and its section "Message Framing and Security". The first is the request
// `flux getattr badkey` of the figure in RFC 6, as the program sends it: without routes, because the broker adds them.
var messages = map[string]struct {
	bytes string
	want  Message
}{
	"a request": {
		bytes: `
			08 617474722e676574
			12 7b226e616d65223a226261646b6579227d 00
			14 8e 01 01 03 ffffffff 00000000 ffffffff 00000001`,
		want: Message{
			Type: Request, Flags: HasTopic | HasPayload, UserID: UnknownUser, NodeID: AnyRank, Tag: 1, Topic: "attr.get",
			Payload: []byte(`{"name":"badkey"}` + "\x00"),
		},
	},
	"a streaming request to rank 0 without a payload": {
		bytes: `
			10 7265736f757263652e6a6f75726e616c
			14 8e 01 01 41 ffffffff 00000000 00000000 00000002`,
		want: Message{Type: Request, Flags: HasTopic | Streaming, UserID: UnknownUser, Tag: 2, Topic: "resource.journal"},
	},
	"a response with an error, its text, and the empty part after no routes": {
		bytes: `
			00
			08 617474722e676574
			04 6e6f2e 00
			14 8e 01 02 0b 000003e8 00000009 00000002 00000001`,
		want: Message{
			Type: Response, Flags: HasTopic | HasPayload | HasRoute, UserID: 1000, Roles: 9, Errno: 2, Tag: 1, Topic: "attr.get",
			Payload: []byte("no.\x00"),
		},
	},
	"a request with two routes": {
		bytes: `
			01 61
			02 6262
			00
			01 74
			14 8e 01 01 09 00000000 00000001 ffffffff 0000ffff`,
		want: Message{
			Type: Request, Flags: HasTopic | HasRoute, Roles: 1, NodeID: AnyRank, Tag: 0xffff, Topic: "t", Routes: []string{"a", "bb"},
		},
	},
	"an event": {
		bytes: `
			0f 6865617274626561742e70756c7365
			14 8e 01 04 01 00000000 00000001 0000002a 00000000`,
		want: Message{Type: Event, Flags: HasTopic, Roles: 1, Sequence: 42, Topic: "heartbeat.pulse"},
	},
	"a payload of 255 bytes, whose length is long": {
		bytes: `
			01 74
			ff 000000ff ` + strings.Repeat("78", 255) + `
			14 8e 01 04 03 00000000 00000001 00000001 00000000`,
		want: Message{
			Type: Event, Flags: HasTopic | HasPayload, Roles: 1, Sequence: 1, Topic: "t", Payload: bytes.Repeat([]byte("x"), 255),
		},
	},
	"a payload of 254 bytes, whose length is short": {
		bytes: `
			01 74
			fe ` + strings.Repeat("78", 254) + `
			14 8e 01 04 03 00000000 00000001 00000001 00000000`,
		want: Message{
			Type: Event, Flags: HasTopic | HasPayload, Roles: 1, Sequence: 1, Topic: "t", Payload: bytes.Repeat([]byte("x"), 254),
		},
	},
	"a payload of no bytes": {
		bytes: `
			01 74
			00
			14 8e 01 02 03 00000000 00000001 00000000 00000007`,
		want: Message{Type: Response, Flags: HasTopic | HasPayload, Roles: 1, Tag: 7, Topic: "t", Payload: []byte{}},
	},
	"a control message": {
		bytes: `14 8e 01 08 00 00000000 00000000 00000003 00000004`,
		want:  Message{Type: Control, ControlType: 3, ControlStatus: 4},
	},
}

func TestMessagesOfTheRFC(t *testing.T) {
	t.Parallel()
	for name, row := range messages {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			encoded := unhex(t, row.bytes)
			got, err := Decode(encoded)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(&row.want, got); diff != "" {
				t.Errorf("decoded (-want +got):\n%s", diff)
			}
			back, err := Append(nil, &row.want)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(encoded, back); diff != "" {
				t.Errorf("encoded (-want +got):\n%s", diff)
			}
		})
	}
}

func TestFlagsFollowWhatThereIs(t *testing.T) {
	t.Parallel()
	encoded, err := Append(nil, &Message{Type: Response, Flags: HasPayload | Streaming, Topic: "t"})
	if err != nil {
		t.Fatal(err)
	}
	got, err := Decode(encoded)
	if err != nil {
		t.Fatal(err)
	}
	if want := HasTopic | Streaming; got.Flags != want {
		t.Errorf("flags 0x%02x, want 0x%02x: there is no payload, whatever the flags of the message say", got.Flags, want)
	}
}

func TestPartsThatNobodyKnowsArePassedOver(t *testing.T) {
	t.Parallel()
	got, err := Decode(unhex(t, "01 74 01 75 14 8e 01 04 01 00000000 00000001 00000001 00000000"))
	if err != nil {
		t.Fatal(err)
	}
	if got.Topic != "t" || got.Payload != nil {
		t.Errorf("topic %q and payload %q, want t and none", got.Topic, got.Payload)
	}
}

func TestWhatIsNoMessage(t *testing.T) {
	t.Parallel()
	header := "14 8e 01 01 00 00000000 00000000 00000000 00000000"
	routed := strings.Replace(header, "8e 01 01 00", "8e 01 01 08", 1)
	for name, row := range map[string]struct{ bytes, want string }{
		"nothing":                       {"", "it is empty, at byte 0"},
		"a part that is cut":            {"05 61", "a part of 5 bytes with only 1 left, at byte 0"},
		"a long length that is cut":     {"ff 0000", "it ends within the length of a part, at byte 0"},
		"a long part that is cut":       {"ff ffffffff 00", "a part of 4294967295 bytes with only 1 left, at byte 0"},
		"a header of 19 bytes":          {"13 8e 01 01 00 00000000 00000000 00000000 000000", "19 bytes and not the 20"},
		"another magic":                 {strings.Replace(header, "8e", "8f", 1), "begins with 0x8f and not with 0x8e"},
		"another version":               {strings.Replace(header, "8e 01", "8e 02", 1), "version 2 of the protocol, of which only 1 is known"},
		"another type":                  {strings.Replace(header, "8e 01 01", "8e 01 03", 1), "type 3, which is none of 1, 2, 4 and 8"},
		"no topic where it says so":     {strings.Replace(header, "8e 01 01 00", "8e 01 01 01", 1), "promise a topic, which is not there"},
		"no payload where it says so":   {"01 74" + strings.Replace(header, "8e 01 01 00", "8e 01 01 03", 1), "promise a payload"},
		"routes without an end":         {"01 74" + routed, "promise a route"},
		"very many routes":              {strings.Repeat("01 61", maxRoutes+1) + "00" + routed, "more than 256 routes"},
		"very many parts":               {strings.Repeat("01 61", maxParts) + header, "more than 260 parts"},
		"a last part that is no header": {header + "00", "its last part has 0 bytes"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := Decode(unhex(t, row.bytes))
			var format *FormatError
			if !errors.As(err, &format) || !strings.Contains(err.Error(), row.want) {
				t.Errorf("error %v, want a FormatError with %q", err, row.want)
			}
		})
	}
}

func TestWhatCannotBeSent(t *testing.T) {
	t.Parallel()
	for want, m := range map[string]Message{
		"a request needs a topic":         {Type: Request},
		"of type 3 cannot be sent":        {Type: 3, Topic: "t"},
		"257 routes: at most 256":         {Type: Request, Topic: "t", Routes: make([]string, 257)},
		"route 1 is empty, which would e": {Type: Request, Topic: "t", Routes: []string{"a", ""}},
	} {
		before := []byte("before")
		got, err := AppendFramed(before, &m)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v, want %q", err, want)
		}
		if string(got) != "before" {
			t.Errorf("%q is left of a message that was not written, want what was there before", got)
		}
	}
}

// framed is a message as it is on a stream.
func framed(t testing.TB, m *Message) []byte {
	t.Helper()
	out, err := AppendFramed(nil, m)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func TestFraming(t *testing.T) {
	t.Parallel()
	got := framed(t, &Message{Type: Event, Topic: "t"})
	if magic := binary.NativeEndian.Uint32(got); magic != 0xffee0012 {
		t.Errorf("magic 0x%08x, want 0xffee0012", magic)
	}
	if size := binary.BigEndian.Uint32(got[4:]); int(size) != len(got)-8 {
		t.Errorf("length %d, want %d, which is that of the rest", size, len(got)-8)
	}
}

// pieces are ways in which a stream comes.
var pieces = map[string]func(io.Reader) io.Reader{
	"at once":        func(r io.Reader) io.Reader { return r },
	"byte by byte":   iotest.OneByteReader,
	"half by half":   iotest.HalfReader,
	"with its end":   iotest.DataErrReader,
	"with time-outs": func(r io.Reader) io.Reader { return &interrupted{from: r} },
	"with both":      func(r io.Reader) io.Reader { return &interrupted{from: iotest.OneByteReader(r)} },
}

// interrupted fails every second read as one whose time is over.
type interrupted struct {
	from io.Reader
	odd  bool
}

func (i *interrupted) Read(into []byte) (int, error) {
	if i.odd = !i.odd; i.odd {
		return 0, os.ErrDeadlineExceeded
	}
	return i.from.Read(into)
}

func TestReader(t *testing.T) {
	t.Parallel()
	sizes := []int{0, 1, 254, 255, 256, 4 << 10, 5 << 10, 64 << 10, 64<<10 + 1, 300 << 10, 3}
	var stream []byte
	for _, size := range sizes {
		stream = append(stream, framed(t, &Message{Type: Event, Topic: "t", Payload: bytes.Repeat([]byte{'x'}, size)})...)
	}
	for name, wrap := range pieces {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			reader := NewReader(wrap(bytes.NewReader(stream)), 1<<20)
			next := func() (*Message, error) {
				for {
					m, err := reader.Next()
					if !errors.Is(err, os.ErrDeadlineExceeded) {
						return m, err
					}
				}
			}
			for _, size := range sizes {
				m, err := next()
				if err != nil {
					t.Fatal(err)
				}
				if len(m.Payload) != size {
					t.Fatalf("a payload of %d bytes, want %d", len(m.Payload), size)
				}
			}
			if _, err := next(); !errors.Is(err, io.EOF) {
				t.Errorf("at the end %v, want EOF", err)
			}
			if len(reader.buffered) > chunk {
				t.Errorf("%d bytes are kept after the last message, want at most %d", len(reader.buffered), chunk)
			}
		})
	}
}

func TestReaderEndsWithinAMessage(t *testing.T) {
	t.Parallel()
	whole := framed(t, &Message{Type: Event, Topic: "topic", Payload: []byte("payload")})
	for size := 1; size < len(whole); size++ {
		if _, err := NewReader(bytes.NewReader(whole[:size]), 1<<20).Next(); !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Errorf("after %d of %d bytes %v, want that it ends too early", size, len(whole), err)
		}
	}
}

func TestReaderRefusesWhatIsTooLong(t *testing.T) {
	t.Parallel()
	whole := framed(t, &Message{Type: Event, Topic: "t", Payload: make([]byte, 1000)})
	if _, err := NewReader(bytes.NewReader(whole), len(whole)-8).Next(); err != nil {
		t.Errorf("a message as long as the limit: %v", err)
	}
	_, err := NewReader(bytes.NewReader(whole), len(whole)-9).Next()
	var tooLong *TooLongError
	if !errors.As(err, &tooLong) || tooLong.Size != int64(len(whole)-8) || tooLong.Limit != int64(len(whole)-9) {
		t.Errorf("a message longer than the limit: %v, want its size and the limit", err)
	}
}

// TestReaderMakesRoomForWhatComes shows that a length alone takes no memory.
func TestReaderMakesRoomForWhatComes(t *testing.T) {
	t.Parallel()
	header := binary.NativeEndian.AppendUint32(nil, streamMagic)
	header = binary.BigEndian.AppendUint32(header, math.MaxInt32)
	reader := NewReader(bytes.NewReader(append(header, 'x')), math.MaxInt32)
	if _, err := reader.Next(); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("%v, want that it ends too early", err)
	}
	if len(reader.buffered) > 2*chunk {
		t.Errorf("%d bytes were kept ready for a message of which one byte came", len(reader.buffered))
	}
}

func TestReaderRefusesAnotherProtocol(t *testing.T) {
	t.Parallel()
	_, err := NewReader(strings.NewReader("HTTP/1.1 400 Bad Request\r\n"), 1<<20).Next()
	if _, format := errors.AsType[*FormatError](err); !format {
		t.Errorf("%v, want a FormatError", err)
	}
}

func FuzzDecode(f *testing.F) {
	for _, row := range messages {
		f.Add(unhex(f, row.bytes))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		m, err := Decode(data)
		if err != nil {
			return
		}
		if m.Topic == "" && m.Type != Control {
			// It can be read and cannot be sent.
			return
		}
		again, err := Append(nil, m)
		if err != nil {
			t.Fatalf("%+v was read and cannot be written: %v", m, err)
		}
		back, err := Decode(again)
		if err != nil {
			t.Fatalf("%+v was written and cannot be read: %v", m, err)
		}
		// A flag without its part is not written: an empty topic has none.
		const parts = HasTopic | HasPayload | HasRoute
		if diff := cmp.Diff(m, back, cmpopts.IgnoreFields(Message{}, "Flags")); diff != "" || m.Flags&^parts != back.Flags&^parts {
			t.Fatalf("flags 0x%02x and 0x%02x, and what was read, written and read (-first +second):\n%s", m.Flags, back.Flags, diff)
		}
	})
}

func FuzzReader(f *testing.F) {
	var all []byte
	for _, row := range messages {
		one := framed(f, &row.want)
		f.Add(one)
		all = append(all, one...)
	}
	f.Add(all)
	f.Fuzz(func(t *testing.T, stream []byte) {
		count := func(from io.Reader) (messages int, err error) {
			reader := NewReader(from, 1<<16)
			for {
				_, err := reader.Next()
				if errors.Is(err, os.ErrDeadlineExceeded) {
					continue
				}
				if err != nil {
					return messages, err
				}
				messages++
			}
		}
		atOnce, atOnceErr := count(bytes.NewReader(stream))
		piecewise, piecewiseErr := count(&interrupted{from: iotest.OneByteReader(bytes.NewReader(stream))})
		if atOnce != piecewise || atOnceErr.Error() != piecewiseErr.Error() {
			t.Fatalf("%d messages and then %v at once, %d and then %v in pieces", atOnce, atOnceErr, piecewise, piecewiseErr)
		}
	})
}
