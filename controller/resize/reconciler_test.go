package resize

import (
	"errors"
	"fmt"
	"testing"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/api/v1alpha1"
)

// TestGivesUp: who gives up nodes or claims is told from who does not.
func TestGivesUp(t *testing.T) {
	t.Parallel()
	of := func(nodes int32, held ...string) []v1alpha1.Reservation {
		return []v1alpha1.Reservation{{NodePool: "a", Nodes: nodes, Held: held}}
	}
	before := of(3, "a-0", "a-2")
	for name, row := range map[string]struct {
		after []v1alpha1.Reservation
		want  bool
	}{
		"the same":            {before, false},
		"one node more":       {of(3, "a-0", "a-1", "a-2"), false},
		"a larger claim":      {of(4, "a-0", "a-2"), false},
		"a smaller claim":     {of(2, "a-0", "a-2"), true},
		"another node":        {of(3, "a-0", "a-1"), true},
		"the first node less": {of(3, "a-2"), true},
		"the last node less":  {of(3, "a-0"), true},
		"nothing":             {nil, true},
	} {
		if got := givesUp(before, row.after); got != row.want {
			t.Errorf("%s: %t, want %t", name, got, row.want)
		}
	}
	if givesUp(nil, before) {
		t.Error("who has had nothing gives up something")
	}
}

// TestEach: errors that were joined are judged one by one, and what wraps them is not taken apart.
func TestEach(t *testing.T) {
	t.Parallel()
	a, b, c := errors.New("a"), errors.New("b"), errors.New("c")
	wrapped := fmt.Errorf("writing: %w", c)
	got := flattenErrors([]error{errors.Join(a, errors.Join(b)), wrapped})
	if fmt.Sprint(got) != "[a b writing: c]" {
		t.Errorf("%v", got)
	}
}
