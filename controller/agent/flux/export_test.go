package flux

// DecodeReply reads the payload of a response of a topic as the calls and streams of that topic do. known says whether there is one.
func DecodeReply(topic string, payload []byte) (known bool, err error) {
	decode, known := decoders[topic]
	if !known {
		return false, nil
	}
	_, err = decode(payload)
	return true, err
}
