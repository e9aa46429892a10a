package server

import "sync"

// targets are the target sizes that Cluster Autoscaler believes in, by pool: the last that it was told, and what it has ordered
// since. It computes by them what it orders.
type targets struct{ byPool sync.Map }

// target is that of one pool. ordering is held while an order is carried out: the next one is computed from what comes of it.
type target struct {
	ordering sync.Mutex
	mu       sync.Mutex
	believed int32
}

func (t *targets) of(pool string) *target {
	if known, is := t.byPool.Load(pool); is {
		if of, ok := known.(*target); ok {
			return of
		}
	}
	fresh, _ := t.byPool.LoadOrStore(pool, &target{believed: -1})
	of, _ := fresh.(*target)
	return of
}

// tell notes what it is told.
func (t *target) tell(size int32) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.believed = size
}

// believes is what it believes, -1 where this process has told it nothing.
func (t *target) believes() int32 {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.believed
}

// ordered notes that an order of it has succeeded.
func (t *target) ordered(delta int32) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.believed >= 0 {
		t.believed += delta
	}
}
