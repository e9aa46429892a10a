//go:build !linux

package resize

import "time"

// threadTime is nil: other systems than Linux are not asked for the processor time of a thread.
var threadTime func() time.Duration
