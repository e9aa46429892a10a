package flux

import "context"

// DecodeReply reads the payload of a response of a topic as the calls and streams of that topic do. known says whether there is one.
func DecodeReply(topic string, payload []byte) (known bool, err error) {
	decode, known := decoders[topic]
	if !known {
		return false, nil
	}
	_, err = decode(payload)
	return true, err
}

// OpenStream opens a stream whose payloads are read by decode.
func OpenStream[T any](ctx context.Context, c *Client, topic string, decode func(payload []byte) (T, error)) (*Stream[T], error) {
	return openStream(ctx, c, AnyRank, topic, nil, decode)
}
