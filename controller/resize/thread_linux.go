package resize

import (
	"syscall"
	"time"
)

// rusageThread is RUSAGE_THREAD (getrusage(2)).
const rusageThread = 1

// threadTime is the processor time of the thread that the goroutine is locked to; zero, and so no rest, if the kernel does not tell.
func threadTime() time.Duration {
	var usage syscall.Rusage
	if err := syscall.Getrusage(rusageThread, &usage); err != nil {
		return 0
	}
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}
