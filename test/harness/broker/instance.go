package broker

import (
	"context"
	"fmt"
	"os"
	"strings"
	"time"
)

// Variable names the environment variable that puts a real flux-core in the place of the stand-in.
const Variable = "FLUX"

// Instance is a Flux instance as a test sees it: the stand-in or real brokers.
type Instance interface {
	// URI is the address of the lead broker, for flux.Options.
	URI() string
	// Add lets the broker of a rank join, as when its pod has started, and returns when it is online.
	Add(ctx context.Context, rank int) error
	// Remove ends the broker of a rank without a word, as when its pod is killed, and returns when it is offline. Rank 0 stays.
	Remove(ctx context.Context, rank int) error
	// Restart kills the lead broker, with all jobs, and starts another one in its place, which the ranks that were online join.
	Restart(ctx context.Context) error
	// Real says that it is flux-core.
	Real() bool
	// Close ends it. It may be called more than once.
	Close() error
}

// Options say what an instance is like. Each field but Dir has a default that its zero value stands for.
type Options struct {
	// Dir is where its socket and all else that it writes is. Its path has to be short: that of a socket has at most 107 bytes.
	Dir string
	// Size is the number of ranks that there can be, and Online how many are from the start. The defaults are 4, and all.
	Size, Online int
	// Cores is the number of cores of each rank. The default is 4. Real brokers have those of this machine.
	Cores int

	// The rest is for the stand-in alone.

	// Run says for how long a job runs and with which status of wait(2) it ends. The default knows "sleep SECONDS", "true" and "false",
	// and takes all else for something that is done at once.
	Run func(command []string) (length time.Duration, status int)
	// Cleanup is how long a job takes from its end until its resources are free.
	Cleanup time.Duration
	// Version is what the broker says its version is. Before 0.72 there is no resource journal, and before 0.82 no broker.uuid.
	Version string
	// Loading starts the broker without its services, until Load.
	Loading bool
	// Refuse is the errno for which each connection is refused, 0 for none.
	Refuse byte
}

func (o Options) complete() (Options, error) {
	if o.Dir == "" {
		return o, fmt.Errorf("broker.Options.Dir is empty: it has to be a directory for the socket")
	}
	if o.Size == 0 {
		o.Size = 4
	}
	if o.Online == 0 {
		o.Online = o.Size
	}
	if o.Online < 1 || o.Online > o.Size {
		return o, fmt.Errorf("broker.Options.Online is %d: it has to be between 1 and Size, which is %d", o.Online, o.Size)
	}
	if o.Cores == 0 {
		o.Cores = 4
	}
	if o.Run == nil {
		o.Run = runSleep
	}
	if o.Version == "" {
		o.Version = "0.88.0"
	}
	return o, nil
}

// Start starts an instance: real brokers where FLUX names them, the stand-in otherwise. The caller closes it.
func Start(ctx context.Context, options Options) (Instance, error) {
	if path := os.Getenv(Variable); path != "" {
		return startReal(ctx, path, options)
	}
	return New(options)
}

// runSleep is the default of Options.Run.
func runSleep(command []string) (time.Duration, int) {
	const exitedWith1 = 1 << 8
	if len(command) == 0 {
		return 0, exitedWith1
	}
	switch command[0][strings.LastIndexByte(command[0], '/')+1:] {
	case "sleep":
		length, err := time.ParseDuration(strings.Join(command[1:], "") + "s")
		if err != nil || length < 0 {
			return 0, exitedWith1
		}
		return length, 0
	case "false":
		return 0, exitedWith1
	default:
		return 0, 0
	}
}
