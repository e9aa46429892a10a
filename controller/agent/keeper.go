package agent

import (
	"maps"
	"sync"

	"github.com/go-logr/logr"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/controller/agent/rules"
)

// keeper keeps what became of requests. Its methods are for all goroutines.
type keeper struct {
	mu       sync.Mutex
	store    Store
	log      logr.Logger
	instance string
	now      Kept
	// saved is what the store has, as far as it is known to.
	saved Kept
}

// load begins with what is kept for an instance, and returns what was granted, nil where that is not known.
func (k *keeper) load(store Store, log logr.Logger, instance string) rules.Progress {
	k.mu.Lock()
	defer k.mu.Unlock()
	kept, err := store.Load(instance)
	if err != nil {
		log.Error(err, "What became of earlier requests is not known; those that were due are taken to be granted")
	}
	k.store, k.log, k.instance, k.saved = store, log, instance, kept
	k.now = Kept{Granted: kept.Granted, Asked: maps.Clone(kept.Asked)}
	return kept.Granted
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
	k.saved = Kept{Granted: k.now.Granted, Asked: maps.Clone(k.now.Asked)}
	if err := k.store.Save(k.instance, k.saved); err != nil {
		k.log.Error(err, "What became of requests could not be kept; it is tried again at the next one")
	}
}
