package conformance

import (
	"context"
	"errors"
	"fmt"
	"math"
	"regexp"
	"slices"
	"strconv"

	"google.golang.org/grpc/codes"
)

func sizeCases() []Case {
	return []Case{
		changing("IncreaseSize by nothing or less is refused",
			"IncreaseSize by 0 or less is InvalidArgument and changes nothing.",
			func(ctx context.Context, c *caller) error {
				return c.refusesDeltas(ctx, c.increase, "IncreaseSize", 0, -1, math.MinInt32)
			}),
		changing("IncreaseSize above maxSize is refused with both numbers",
			"IncreaseSize to more than maxSize is refused as a whole, in words that have the size asked for and maxSize, and changes nothing.",
			aboveMaxSize),
		changing("IncreaseSize is seen by the very next call",
			"After IncreaseSize the very next TargetSize has the new size, and the very next Nodes lists a machine for each of it, creating or "+
				"running.",
			func(ctx context.Context, c *caller) error {
				for _, step := range []struct{ delta, size int32 }{{3, 3}, {1, 4}} {
					if err := c.increase(ctx, c.orders(), step.delta); err != nil {
						return err
					}
					if err := c.has(ctx, c.orders(), step.size); err != nil {
						return fmt.Errorf("right after IncreaseSize: %w", err)
					}
				}
				return nil
			}),
		changing("IncreaseSize does not wait for machines",
			"IncreaseSize records the target and returns: an error or a timeout makes Cluster Autoscaler leave the group alone for 5 to 30 minutes.",
			func(ctx context.Context, c *caller) error {
				return c.increase(ctx, c.orders(), 3)
			}),
		changing("ids are unique and not empty",
			"Every machine of every group has an id, which no other machine has.",
			uniqueIDs),
		changing("machines that run keep their ids",
			"The id of a machine is its node's provider id, so it is the same in every answer for as long as the machine exists.",
			stableIDs),
		changing("an order keeps its id when it runs",
			"The id that an ordered machine is listed with at once is understood for the life of the machine, also when its node has another "+
				"provider id: Cluster Autoscaler deletes a machine by the id that it has seen last.",
			ordersKeepIDs),
		changing("DecreaseTargetSize by nothing or more is refused",
			"DecreaseTargetSize by 0 or more is InvalidArgument and changes nothing.",
			func(ctx context.Context, c *caller) error {
				return c.refusesDeltas(ctx, c.decrease, "DecreaseTargetSize", 0, 1)
			}),
		changing("DecreaseTargetSize cancels orders",
			"DecreaseTargetSize lowers the target by orders that have not registered, and these are listed no more.",
			cancelsOrders),
		changing("DecreaseTargetSize is clamped at the machines that run",
			"DecreaseTargetSize takes no machine that has registered: a scale-up that timed out asks for its whole delta back though all of it "+
				"has arrived since.",
			clampsAtRunning),
	}
}

// refusesDeltas checks that a group of two machines is not changed by such deltas.
func (c *caller) refusesDeltas(
	ctx context.Context, change func(context.Context, string, int32) error, method string, deltas ...int32,
) error {
	const size = 2
	if err := c.increase(ctx, c.orders(), size); err != nil {
		return err
	}
	for _, delta := range deltas {
		what := fmt.Sprintf("%s by %d", method, delta)
		if err := c.refused(ctx, what, change(ctx, c.orders(), delta), map[string]int32{c.orders(): size}, codes.InvalidArgument); err != nil {
			return err
		}
	}
	return nil
}

func aboveMaxSize(ctx context.Context, c *caller) error {
	bounds, err := c.bounds(ctx, c.orders())
	if err != nil {
		return err
	}
	const size = 2
	if err := c.increase(ctx, c.orders(), size); err != nil {
		return err
	}
	most := bounds.GetMaxSize()
	// The last one is beyond what a sum of 32 bits holds.
	for _, delta := range []int32{most - size + 1, most + 1, math.MaxInt32} {
		what := fmt.Sprintf("IncreaseSize by %d of %d with maxSize %d", delta, size, most)
		grown := c.increase(ctx, c.orders(), delta)
		if err := c.refused(
			ctx, what, grown, map[string]int32{c.orders(): size}, codes.OutOfRange, codes.FailedPrecondition, codes.InvalidArgument,
		); err != nil {
			return err
		}
		said := numbers(errors.Unwrap(grown).Error())
		asked := strconv.FormatInt(int64(size)+int64(delta), 10)
		if !slices.Contains(
			said, strconv.Itoa(int(most)),
		) || (!slices.Contains(said, asked) && !slices.Contains(said, strconv.Itoa(int(delta)))) {
			return fmt.Errorf("%s was refused in words that have not both numbers: %w", what, grown)
		}
	}
	return nil
}

var digits = regexp.MustCompile(`[0-9]+`)

// numbers are all whole numbers in a text.
func numbers(text string) []string { return digits.FindAllString(text, -1) }

func uniqueIDs(ctx context.Context, c *caller) error {
	for _, group := range c.groups() {
		if err := c.increase(ctx, group, 3); err != nil {
			return err
		}
	}
	seen := map[string]string{}
	for _, group := range c.groups() {
		l, err := c.list(ctx, group)
		if err != nil {
			return err
		}
		for _, id := range slices.Concat(l.alive(), l.deleting) {
			switch other, twice := seen[id]; {
			case id == "":
				return fmt.Errorf("a machine of %s has an empty id", group)
			case twice:
				return fmt.Errorf("id %s is listed in %s and again in %s", id, other, group)
			}
			seen[id] = group
		}
	}
	return nil
}

func stableIDs(ctx context.Context, c *caller) error {
	ids, err := c.runs(ctx, c.group, 3)
	if err != nil {
		return err
	}
	keeps := func(ctx context.Context) (*listing, error) {
		l, err := c.list(ctx, c.group)
		if err != nil {
			return nil, err
		}
		for _, id := range ids {
			if !slices.Contains(l.running, id) {
				return nil, fmt.Errorf("%s ran and is not listed as running any more: %s", id, l)
			}
		}
		return l, nil
	}
	if _, err := keeps(ctx); err != nil {
		return err
	}
	// A machine that comes changes nothing of those that are there.
	if err := c.increase(ctx, c.group, 1); err != nil {
		return err
	}
	return c.until(ctx, "a fourth machine runs", func(ctx context.Context) (string, error) {
		l, err := keeps(ctx)
		if err != nil || len(l.running) == 4 {
			return "", err
		}
		return l.String(), nil
	})
}

func ordersKeepIDs(ctx context.Context, c *caller) error {
	// The second time there are machines that have been, whose ids must not be used again.
	for range 2 {
		if err := c.increase(ctx, c.group, 2); err != nil {
			return err
		}
		first, err := c.list(ctx, c.group)
		if err != nil {
			return err
		}
		if err := c.until(ctx, "the machines of "+c.group+" run", func(ctx context.Context) (string, error) {
			l, err := c.list(ctx, c.group)
			if err != nil {
				return "", err
			}
			if len(l.alive()) != len(first.alive()) {
				return "", fmt.Errorf("%d machines were on order or running, and %d are: %s", len(first.alive()), len(l.alive()), l)
			}
			for _, id := range first.alive() {
				known, err := c.knows(ctx, c.group, l, id)
				if err != nil {
					return "", err
				}
				if !known {
					return "", fmt.Errorf("%s was on order and is listed no more: %s", id, l)
				}
			}
			if len(l.creating) > 0 {
				return l.String(), nil
			}
			return "", nil
		}); err != nil {
			return err
		}
		if err := c.empty(ctx, c.group); err != nil {
			return err
		}
	}
	return nil
}

func cancelsOrders(ctx context.Context, c *caller) error {
	group := c.orders()
	if err := c.increase(ctx, group, 3); err != nil {
		return err
	}
	for _, step := range []struct{ delta, left int32 }{{-1, 2}, {-2, 0}} {
		before, err := c.list(ctx, group)
		if err != nil {
			return err
		}
		if err := c.decrease(ctx, group, step.delta); err != nil {
			return err
		}
		size, err := c.target(ctx, group)
		if err != nil {
			return err
		}
		after, err := c.list(ctx, group)
		if err != nil {
			return err
		}
		// Machines may have begun to run in between, and are not for DecreaseTargetSize to take.
		least, most := max(step.left, int32(len(before.running))), max(step.left, int32(len(after.running)))
		if size < least || size > most {
			return fmt.Errorf("the target size of %s is %d after DecreaseTargetSize by %d, and not %d to %d; before: %s; after: %s",
				group, size, step.delta, least, most, before, after)
		}
		if err := c.until(ctx, "the cancelled orders are listed no more", func(ctx context.Context) (string, error) {
			l, err := c.list(ctx, group)
			if err != nil || len(l.alive()) == int(size) {
				return "", err
			}
			return fmt.Sprintf("the target size is %d, %s", size, l), nil
		}); err != nil {
			return err
		}
	}
	return nil
}

func clampsAtRunning(ctx context.Context, c *caller) error {
	const size = 2
	ids, err := c.runs(ctx, c.group, size)
	if err != nil {
		return err
	}
	for _, delta := range []int32{-size, -1, math.MinInt32} {
		if err := c.decrease(ctx, c.group, delta); err != nil {
			return err
		}
		if err := c.has(ctx, c.group, size); err != nil {
			return fmt.Errorf("%d machines run, and after DecreaseTargetSize by %d: %w", size, delta, err)
		}
	}
	l, err := c.list(ctx, c.group)
	if err != nil {
		return err
	}
	if slices.Sort(ids); !slices.Equal(ids, slices.Sorted(slices.Values(l.running))) {
		return fmt.Errorf("%v ran before DecreaseTargetSize, and then %s", ids, l)
	}
	return nil
}
