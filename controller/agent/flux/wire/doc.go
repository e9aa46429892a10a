// Package wire encodes and decodes the messages that a Flux broker and a program exchange on a local socket.
//
// The format is that of Flux RFC 3 (Flux Message Protocol, sections "Common Message Format" and "Message Framing and Security"), as
// flux-core has it in src/common/librouter/sendfd.c and src/common/libflux/message.c. On a stream a message is
//
//	magic 0xffee0012 in the byte order of the host | length of the rest, 4 bytes, big endian | parts
//
// and a part is its length and its bytes. A length below 255 is one byte; a longer one is the byte 255 and 4 bytes, big endian. The
// parts are, in this order and each only when its flag is set but the last, which is always there:
//
//	routes, and an empty part after them | topic | payload | header of 20 bytes
//
// The package knows no socket and no topic, and what it reads is bounded by its caller.
package wire
