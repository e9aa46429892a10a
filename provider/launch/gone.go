package launch

import "errors"

// ErrGone is what Terminate returns for an instance that the cloud does not have, or no more: it is nothing that was missed in a
// listing, but the answer to a question about that one. With it the record of a machine may go.
var ErrGone = errors.New("the cloud has no such instance")
