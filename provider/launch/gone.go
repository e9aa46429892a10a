package launch

import "errors"

// ErrGone is what Terminate returns for an instance that the cloud does not have, or no more: it is nothing that was missed in a
// listing, but the answer to a question about that one. With it the record of a machine may go.
var ErrGone = errors.New("the cloud has no such instance")

// CodeNameTaken is the code of an Invalid outcome of a machine whose name something in the cloud has that another order has made. That is
// never ended for this machine's sake, nor taken for it.
const CodeNameTaken = "NameTaken"
