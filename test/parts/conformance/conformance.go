package conformance

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"google.golang.org/grpc"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/proto/externalgrpc"
)

// ErrSkipped is what a case returns that needs more than the target has.
var ErrSkipped = errors.New("the case does not apply")

// Target is the server that is tested.
type Target struct {
	// Conn leads to the server.
	Conn grpc.ClientConnInterface
	// Group is the id of a node group with minSize 0, target size 0 and maxSize 4 or more, which the cases may grow
	// and shrink. Nobody else does.
	Group string
	// Second is the id of another such group, or empty. Where it is given, what concerns machines that do not run yet
	// is tested on it, so its machines should take longer to run than a case takes.
	Second string
	// Timeout is how long any call may take; 0 means 5 s, which is Cluster Autoscaler's default.
	Timeout time.Duration
	// Patience is how long a machine of Group may take to run, and any machine to go; 0 means one minute.
	Patience time.Duration
}

// Case is one rule, or one side of it, that a server keeps.
type Case struct {
	// Name is short and no other case has it.
	Name string
	// Rule is one sentence that says what the case checks.
	Rule string
	// Run returns nil when the server keeps the rule, ErrSkipped when the target lacks what the case needs, and
	// otherwise how the server breaks the rule.
	Run func(context.Context, *Target) error
}

// Cases are all cases, in the order in which they are best read.
func Cases() []Case {
	return slices.Concat(readingCases(), sizeCases(), deletionCases(), mendingCases(), messageCases())
}

// Run runs each case as a subtest.
func Run(t *testing.T, target *Target) {
	t.Helper()
	for _, c := range Cases() {
		t.Run(c.Name, func(t *testing.T) {
			switch err := c.Run(t.Context(), target); {
			case errors.Is(err, ErrSkipped):
				t.Skip(err)
			case err != nil:
				t.Errorf("%v\nThe rule: %s", err, c.Rule)
			}
		})
	}
}

// reading is a case that changes nothing.
func reading(name, rule string, run func(context.Context, *caller) error) Case {
	return Case{Name: name, Rule: rule, Run: func(ctx context.Context, target *Target) error {
		return run(ctx, newCaller(target))
	}}
}

// changing is a case that changes the groups. It begins and ends with no machine in them.
func changing(name, rule string, run func(context.Context, *caller) error) Case {
	return Case{Name: name, Rule: rule, Run: func(ctx context.Context, target *Target) (err error) {
		c := newCaller(target)
		for _, group := range c.groups() {
			size, err := c.target(ctx, group)
			if err != nil {
				return err
			}
			if size != 0 {
				return fmt.Errorf("cannot begin: the target size of %s is %d and not 0", group, size)
			}
		}
		defer func() {
			// Also after the context has ended: what is left would make the next case fail.
			ctx := context.WithoutCancel(ctx)
			for _, group := range c.groups() {
				err = errors.Join(err, c.empty(ctx, group))
			}
		}()
		return run(ctx, c)
	}}
}

// timed gives each call the deadline that Cluster Autoscaler would.
type timed struct {
	grpc.ClientConnInterface
	timeout time.Duration
}

// Invoke implements grpc.ClientConnInterface.
func (t timed) Invoke(ctx context.Context, method string, args, reply any, options ...grpc.CallOption) error {
	ctx, cancel := context.WithTimeout(ctx, t.timeout)
	defer cancel()
	return t.ClientConnInterface.Invoke(ctx, method, args, reply, options...)
}

func newCaller(target *Target) *caller {
	c := &caller{group: target.Group, second: target.Second, patience: target.Patience}
	timeout := target.Timeout
	if timeout == 0 {
		timeout = 5 * time.Second
	}
	if c.patience == 0 {
		c.patience = time.Minute
	}
	c.conn = timed{target.Conn, timeout}
	c.client = externalgrpc.NewCloudProviderClient(c.conn)
	return c
}
