package flux

import (
	"context"
	"errors"
	"fmt"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/controller/agent/flux/wire"
)

// maxEarlyEvents bounds the events that come while a Subscription waits for the answer to a change of its topics.
const maxEarlyEvents = 4096

// Event is a message that was published in the instance.
type Event struct {
	// Topic is what it is about, such as job-exception or heartbeat.pulse.
	Topic string
	// Sequence numbers the events of an instance: a gap shows that some were missed, or were for others.
	Sequence uint32
	// Payload is as its topic says, most often JSON, without the NUL byte that ends it.
	Payload []byte
}

// Subscription receives the events of some topics on a connection of its own. Its methods are for one goroutine, Close apart, which any
// may call.
type Subscription struct {
	socket *socket
	tag    uint32
	// early are events that came before the answer to a change of topics.
	early []Event
	over  error
	// withDeadline gives a change of topics a deadline where its context has none.
	withDeadline func(context.Context) (context.Context, context.CancelFunc)
}

// Subscribe receives events whose topic begins with one of the topics. "" begins all.
func (c *Client) Subscribe(ctx context.Context, topics ...string) (*Subscription, error) {
	bounded, cancel := c.withDeadline(ctx)
	defer cancel()
	s, err := c.dialer.dial(bounded)
	if err != nil {
		return nil, err
	}
	subscription := &Subscription{socket: s, withDeadline: c.withDeadline}
	for _, topic := range topics {
		if err := subscription.Add(bounded, topic); err != nil {
			return nil, errors.Join(err, subscription.Close())
		}
	}
	return subscription, nil
}

// Add receives events whose topic begins with topic as well.
func (s *Subscription) Add(ctx context.Context, topic string) error {
	return s.change(ctx, "event.subscribe", topic)
}

// Remove is the reverse of Add: a topic that was added twice has to be removed twice.
func (s *Subscription) Remove(ctx context.Context, topic string) error {
	return s.change(ctx, "event.unsubscribe", topic)
}

// change asks the broker for a change of topics and waits for its answer. Events that come meanwhile are kept for Next.
func (s *Subscription) change(ctx context.Context, how, topic string) error {
	if s.over != nil {
		return s.over
	}
	ctx, cancel := s.withDeadline(ctx)
	defer cancel()
	payload, err := wire.JSON(map[string]string{"topic": topic})
	if err != nil {
		return fmt.Errorf("flux %s: %w", how, err)
	}
	s.tag++
	sent, err := s.socket.send(ctx, &wire.Message{
		Type: wire.Request, UserID: wire.UnknownUser, NodeID: wire.AnyRank, Tag: s.tag, Topic: how, Payload: payload,
	})
	if err != nil {
		_, unsendable := errors.AsType[*unsendableError](err)
		if sent || ctx.Err() == nil && !unsendable {
			s.over = lostWhile(how, err)
			return s.over
		}
		return fmt.Errorf("flux %s: %w", how, err)
	}
	for {
		m, err := s.receive(ctx, how)
		switch {
		case err != nil:
			return err
		case m.Type == wire.Response && m.Tag == s.tag:
			return decodeReply(how, m, nil)
		case m.Type != wire.Event:
			// An answer to a change whose context ended before it came.
		case len(s.early) == maxEarlyEvents:
			return fmt.Errorf("flux %s: %d events came before the answer", how, maxEarlyEvents)
		default:
			s.early = append(s.early, eventOf(m))
		}
	}
}

// Next waits for the next event. Its error is a *LostError when the connection is lost, after which nothing follows; ErrClosed after
// Close; or that of the context, after which Next can be called again.
func (s *Subscription) Next(ctx context.Context) (Event, error) {
	if len(s.early) > 0 {
		first := s.early[0]
		s.early = s.early[1:]
		return first, nil
	}
	for {
		m, err := s.receive(ctx, "events")
		if err != nil {
			return Event{}, err
		}
		if m.Type == wire.Event {
			return eventOf(m), nil
		}
	}
}

func (s *Subscription) receive(ctx context.Context, what string) (*wire.Message, error) {
	if s.over != nil {
		return nil, s.over
	}
	m, err := s.socket.receive(ctx)
	if err == nil {
		return m, nil
	}
	if ctx.Err() != nil {
		return nil, fmt.Errorf("flux %s: %w", what, context.Cause(ctx))
	}
	s.over = lostWhile(what, err)
	return nil, s.over
}

func eventOf(m *wire.Message) Event {
	return Event{Topic: m.Topic, Sequence: m.Sequence, Payload: wire.Unterminated(m.Payload)}
}

// Close ends the subscription. A Next that waits ends with ErrClosed.
func (s *Subscription) Close() error {
	if err := s.socket.close(); err != nil && !isClosed(err) {
		return fmt.Errorf("close subscription: %w", err)
	}
	return nil
}
