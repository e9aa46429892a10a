package conformance

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/proto/externalgrpc"
)

func deletionCases() []Case {
	return []Case{
		changing("DeleteNodes lowers the target by its victims",
			"DeleteNodes lowers the target by exactly the number of its victims, which are Deleting or gone for the very next call and are not "+
				"replaced.",
			deletesVictims),
		changing("a repeated DeleteNodes lowers nothing more",
			"DeleteNodes of a machine that is already on its way out or gone succeeds and changes nothing, however often it is repeated.",
			repeatedDeletion),
		changing("DeleteNodes takes a machine that never registered",
			"A machine that never registered is deleted like any other, by its provider id, which Cluster Autoscaler then gives as the name too.",
			func(ctx context.Context, c *caller) error {
				if err := c.increase(ctx, c.orders(), 3); err != nil {
					return err
				}
				id, err := c.knownMachine(ctx, c.orders())
				if err != nil {
					return err
				}
				return c.deletes(ctx, c.orders(), 2, unregistered(id))
			}),
		changing("DeleteNodes takes an order at once",
			"What Nodes lists can be deleted, also right after IncreaseSize; an answer that it succeeded means that it happened.",
			func(ctx context.Context, c *caller) error {
				if err := c.increase(ctx, c.orders(), 3); err != nil {
					return err
				}
				l, err := c.list(ctx, c.orders())
				if err != nil {
					return err
				}
				if len(l.alive()) == 0 {
					return errors.New("3 machines are on order and none is listed")
				}
				return c.deletes(ctx, c.orders(), 2, unregistered(l.alive()[0]))
			}),
		changing("DeleteNodes refuses a node of another group",
			"DeleteNodes with a node of another group is refused as a whole and changes nothing.",
			func(ctx context.Context, c *caller) error {
				return c.refusesForeign(ctx, func(id string) (*externalgrpc.ExternalGrpcNode, error) { return c.registered(ctx, c.group, id) })
			}),
		changing("DeleteNodes refuses a machine of another group that has no labels",
			"Cluster Autoscaler sends no labels of a machine without a node, so that its provider id has to say of which group it is.",
			func(ctx context.Context, c *caller) error {
				return c.refusesForeign(ctx, func(id string) (*externalgrpc.ExternalGrpcNode, error) { return unregistered(id), nil })
			}),
		changing("DeleteNodes of a node that is nobody's changes nothing",
			"Whether DeleteNodes refuses a node that no group knows or takes it for one that is gone: it counts for nothing.",
			func(ctx context.Context, c *caller) error {
				const size = 2
				if err := c.increase(ctx, c.orders(), size); err != nil {
					return err
				}
				deleted := c.delete(ctx, c.orders(), unregistered(foreign))
				if err := c.has(ctx, c.orders(), size); err != nil {
					return fmt.Errorf("after DeleteNodes of a node that is nobody's (%w): %w", orGranted(deleted), err)
				}
				return nil
			}),
	}
}

// deletes makes DeleteNodes of machines and checks what the very next calls see: the target that is left, and victims
// that are on their way out.
func (c *caller) deletes(ctx context.Context, group string, left int32, victims ...*externalgrpc.ExternalGrpcNode) error {
	if err := c.delete(ctx, group, victims...); err != nil {
		return err
	}
	if err := c.has(ctx, group, left); err != nil {
		return fmt.Errorf("right after DeleteNodes of %d machines: %w", len(victims), err)
	}
	l, err := c.list(ctx, group)
	if err != nil {
		return err
	}
	for _, victim := range victims {
		if slices.Contains(l.alive(), victim.GetProviderID()) {
			return fmt.Errorf("%s was deleted and is neither Deleting nor gone: %s", victim.GetProviderID(), l)
		}
	}
	return nil
}

func deletesVictims(ctx context.Context, c *caller) error {
	ids, err := c.runs(ctx, c.group, 3)
	if err != nil {
		return err
	}
	if err := c.deletes(ctx, c.group, 1, unregisteredAll(ids[:2])...); err != nil {
		return err
	}
	if err := c.gone(ctx, c.group, ids[:2]); err != nil {
		return err
	}
	if err := c.has(ctx, c.group, 1); err != nil {
		return fmt.Errorf("when the victims were gone: %w", err)
	}
	l, err := c.list(ctx, c.group)
	if err != nil {
		return err
	}
	if !slices.Equal(l.running, ids[2:]) {
		return fmt.Errorf("%v was not deleted, and yet there is %s", ids[2:], l)
	}
	return nil
}

func repeatedDeletion(ctx context.Context, c *caller) error {
	ids, err := c.runs(ctx, c.group, 3)
	if err != nil {
		return err
	}
	victim := unregistered(ids[0])
	for _, nodes := range [][]*externalgrpc.ExternalGrpcNode{{victim, victim}, {victim}, {victim}} {
		if err := c.deletes(ctx, c.group, 2, nodes...); err != nil {
			return err
		}
	}
	if err := c.gone(ctx, c.group, ids[:1]); err != nil {
		return err
	}
	if err := c.deletes(ctx, c.group, 2, victim); err != nil {
		return fmt.Errorf("when the victim was gone: %w", err)
	}
	return nil
}

// refusesForeign asks the second group to delete one of its own machines and one of the first group's.
func (c *caller) refusesForeign(ctx context.Context, named func(id string) (*externalgrpc.ExternalGrpcNode, error)) error {
	if c.second == "" {
		return fmt.Errorf("%w: there is no second group", ErrSkipped)
	}
	ids, err := c.runs(ctx, c.group, 1)
	if err != nil {
		return err
	}
	other, err := named(ids[0])
	if err != nil {
		return err
	}
	if err := c.increase(ctx, c.second, 2); err != nil {
		return err
	}
	own, err := c.knownMachine(ctx, c.second)
	if err != nil {
		return err
	}
	for _, nodes := range [][]*externalgrpc.ExternalGrpcNode{{other}, {unregistered(own), other}} {
		what := fmt.Sprintf("DeleteNodes of %s with a machine of %s", c.second, c.group)
		err := c.delete(ctx, c.second, nodes...)
		if err == nil || silent(err) || status.Code(err) == codes.Unimplemented {
			return fmt.Errorf("%s was not refused: %w", what, orGranted(err))
		}
		for group, size := range map[string]int32{c.group: 1, c.second: 2} {
			if err := c.has(ctx, group, size); err != nil {
				return fmt.Errorf("%s was refused and yet changed something: %w", what, err)
			}
		}
		l, err := c.list(ctx, c.second)
		if err != nil {
			return err
		}
		if known, err := c.knows(ctx, c.second, l, own); err != nil || !known {
			if err != nil {
				return err
			}
			return errors.New(what + " was refused, and yet " + own + " is not there any more")
		}
	}
	return nil
}
