package agent

import (
	"context"
	"maps"
	"sync"

	"github.com/go-logr/logr"
	"k8s.io/utils/clock"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/controller/agent/rules"
)

// keeper keeps what became of requests. Its methods are for all goroutines.
type keeper struct {
	mu       sync.Mutex
	store    Store
	log      logr.Logger
	instance string
	now      Kept
	// saved is what the store has. Where Granted is nil, it has nothing of this instance.
	saved Kept
	// unsaved has that saving has failed.
	unsaved chan struct{}
}

func newKeeper(c Config) *keeper {
	return &keeper{store: c.Store, log: c.Log, unsaved: make(chan struct{}, 1)}
}

// load begins with what is kept for an instance, and returns what was granted, nil where nothing is kept. lost says that something may have
// been. What this program knows of the same instance is newer than what is kept.
func (k *keeper) load(instance string) (granted rules.Progress, lost bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.instance == instance && k.now.Granted != nil {
		return k.now.Granted, false
	}
	kept, err := k.store.Load(instance)
	if err != nil {
		k.log.Error(err, "What became of earlier requests is not known; those that were due are taken to be granted")
	}
	k.instance, k.saved = instance, kept
	k.now = Kept{Granted: kept.Granted, Asked: maps.Clone(kept.Asked)}
	return kept.Granted, err != nil
}

// retry saves again what could not be saved, until the context ends.
func (k *keeper) retry(ctx context.Context, c clock.Clock) {
	for {
		select {
		case <-k.unsaved:
		case <-ctx.Done():
			return
		}
		if !wait(ctx, c, maxPause) {
			return
		}
		k.mu.Lock()
		k.save()
		k.mu.Unlock()
	}
}

// grant is what was granted until now.
func (k *keeper) grant(progress rules.Progress) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.now.Granted = progress
	k.save()
}

// asked says whether a request was made of which it is not known whether it arrived, and the size before.
func (k *keeper) asked(id string) (before rules.Size, is bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	before, is = k.now.Asked[id]
	return before, is
}

// ask is that a request is about to be made.
func (k *keeper) ask(id string, before rules.Size) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.now.Asked == nil {
		k.now.Asked = map[string]rules.Size{}
	}
	k.now.Asked[id] = before
	k.save()
}

// settle is that the answer to a request is known. It is saved with what was granted.
func (k *keeper) settle(id string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	delete(k.now.Asked, id)
}

func (k *keeper) save() {
	if k.saved.Granted != nil && maps.Equal(k.saved.Granted, k.now.Granted) && maps.Equal(k.saved.Asked, k.now.Asked) {
		return
	}
	next := Kept{Granted: k.now.Granted, Asked: maps.Clone(k.now.Asked)}
	if err := k.store.Save(k.instance, next); err != nil {
		k.log.Error(err, "What became of requests could not be kept; it is tried again")
		poke(k.unsaved)
		return
	}
	k.saved = next
}
