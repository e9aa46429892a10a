package resize

import (
	"strconv"
	"testing"
	"time"
)

// TestBudgetOfNamespaces: a namespace that has a thousand objects to ask for leaves another one its reads, at once and in the long run; all
// together have no more than their bound.
func TestBudgetOfNamespaces(t *testing.T) {
	t.Parallel()
	b := newBudget[string](time.Hour)
	begin := time.Unix(0, 0)
	asked := map[string]int{}
	for tenth := range 600 {
		now := begin.Add(time.Duration(tenth) * time.Second / 10)
		for i := range 1000 {
			if may, _, _ := b.allow("many", "many-"+strconv.Itoa(i), now); may {
				asked["many"]++
			}
		}
		if tenth%10 == 0 {
			may, _, due := b.allow("one", "one-"+strconv.Itoa(tenth), now)
			if !may {
				t.Fatalf("after %s the other namespace is put off until %s", now.Sub(begin), due.Sub(begin))
			}
			asked["one"]++
		}
	}
	if low, high := 60*readsOfOnePerSecond, 60*readsOfOnePerSecond+readsOfOneAtOnce; asked["many"] < low || asked["many"] > high {
		t.Errorf("the namespace with many objects has asked %d times in a minute, want %d to %d", asked["many"], low, high)
	}
	begin = begin.Add(time.Hour)
	var all int
	for i := range 100 {
		if may, _, _ := b.allow(strconv.Itoa(i), strconv.Itoa(i), begin); may {
			all++
		}
	}
	if all != readsAtOnce {
		t.Errorf("a hundred namespaces have asked %d times at once, want %d", all, readsAtOnce)
	}
}
