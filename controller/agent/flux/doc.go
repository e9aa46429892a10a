// Package flux speaks with a Flux broker over its local socket, as libflux does with its connector local://, in Go alone.
//
// A Client calls services of the instance. Each call is one request and one response on a connection that all calls share; it is made
// when it is first needed, and again, with backoff, after it was lost. A call that waits for a broker, or for its answer, ends with its
// context, or after Options.CallTimeout where the context has no deadline.
//
//	client, err := flux.New(flux.Options{URI: os.Getenv("FLUX_URI")})
//	status, err := client.ResourceStatus(ctx)
//
// A Stream is a request with many responses: journals, counts of jobs, members of a group. It has a connection of its own, so that one
// that is read slowly holds up nothing else, and closing it is all it takes to cancel it: the broker tells the service. It ends when
// its connection is lost, because what happened meanwhile is not known; Follow opens it again. A Subscription receives events, on a
// connection of its own as well.
//
// # Errors
//
// They are classed by what the caller does next, and found with errors.As:
//
//	*Error         the service answered with an error: errno and text. errors.Is(err, syscall.ENOENT) works
//	*LostError     the connection was lost before the answer came: it may or may not have been done
//	*RefusedError  the broker does not take this user
//	*ReplyError    the answer came and is not what this package knows
//	io.EOF         a stream was ended by its service
//
// Temporary says of each whether it may go away by waiting.
//
// # What is known and where from
//
// The wire is RFC 3 and RFC 6 (package wire). Payloads are those of flux-core; the services are an interface between its parts that it
// does not promise to keep. So replies are read leniently: fields that are not known are passed over, and optional ones may be absent.
// A field that decides something, such as the ranks that are busy, has to be there and to be understood: a guess could end somebody's
// job. Sizes are bounded by Options.
package flux
