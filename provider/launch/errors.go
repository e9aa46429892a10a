package launch

import (
	"fmt"
	"time"
)

// ThrottledError is what List and Terminate return when the cloud wants to be asked less often. It is no failure: nothing was
// carried out, and the call is to be repeated. Launch says the same by outcomes of the kind Throttled.
type ThrottledError struct {
	// After is how long to wait before the call is repeated.
	After time.Duration
}

// Error implements error.
func (e *ThrottledError) Error() string {
	return fmt.Sprintf("the cloud throttles calls: ask again in %s", e.After)
}
