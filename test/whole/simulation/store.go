package simulation

import (
	"slices"
	"strings"
	"time"
)

// watcher is a process that reads from a cache which the API server feeds.
type watcher int

const (
	controllerCache watcher = iota
	providerCache
	// asker is a person who lists what there is, and does not watch.
	asker
	watchers
)

// meta is what all objects have.
type meta struct {
	name    string
	version int64
}

func (m *meta) metadata() *meta { return m }

// object is a pointer to a kind of object. What a table hands out is never changed, only replaced.
type object[T any] interface {
	*T
	metadata() *meta
}

// list has objects in order of their names.
type list[T any, P object[T]] struct{ items []P }

func (l *list[T, P]) find(name string) (int, bool) {
	return slices.BinarySearchFunc(l.items, name, func(p P, name string) int { return strings.Compare(p.metadata().name, name) })
}

func (l *list[T, P]) get(name string) P {
	if i, found := l.find(name); found {
		return l.items[i]
	}
	return nil
}

func (l *list[T, P]) set(p P) {
	i, found := l.find(p.metadata().name)
	if found {
		l.items[i] = p
		return
	}
	l.items = slices.Insert(l.items, i, p)
}

func (l *list[T, P]) remove(name string) {
	if i, found := l.find(name); found {
		l.items = slices.Delete(l.items, i, i+1)
	}
}

// table is all objects of one kind: what the API server has, and what each watcher has seen of it. The events of one kind
// come to a watcher in their order, each some time after the write; those of different kinds overtake each other, as with
// the watches of Kubernetes.
type table[T any, P object[T]] struct {
	world  *world
	live   list[T, P]
	caches [watchers]list[T, P]
	// watchedBy says who has a watch on this kind, and delivered until when its last event takes.
	watchedBy [watchers]bool
	delivered [watchers]time.Time
	// version is that of the last write, checked the one after which the promises were looked at.
	version, checked int64
}

// get is the newest version of an object, nil when there is none.
func (t *table[T, P]) get(name string) P { return t.live.get(name) }

// create adds an object.
func (t *table[T, P]) create(p P) P { return t.write(p) }

// update replaces the newest version of an object by what edit makes of it. It returns nil when there is none.
func (t *table[T, P]) update(name string, edit func(P)) P {
	old := t.live.get(name)
	if old == nil {
		return nil
	}
	changed := *old
	edit(&changed)
	return t.write(&changed)
}

// updateFrom is update for somebody who has read a version: it is refused, with nil, when that is not the newest any more.
func (t *table[T, P]) updateFrom(read P, edit func(P)) P {
	if now := t.live.get(read.metadata().name); now == nil || now.metadata().version != read.metadata().version {
		return nil
	}
	return t.update(read.metadata().name, edit)
}

func (t *table[T, P]) write(p P) P {
	t.touch()
	p.metadata().version = t.world.version
	t.live.set(p)
	t.announce(func(cache *list[T, P]) { cache.set(p) })
	return p
}

// touch notes a write.
func (t *table[T, P]) touch() {
	t.world.version++
	t.world.changed = true
	t.version = t.world.version
}

// remove deletes an object.
func (t *table[T, P]) remove(name string) {
	if t.live.get(name) == nil {
		return
	}
	t.touch()
	t.live.remove(name)
	t.announce(func(cache *list[T, P]) { cache.remove(name) })
}

// announce brings a change to all caches, each after its delay.
func (t *table[T, P]) announce(change func(*list[T, P])) {
	for who := range watchers {
		process := t.world.processes[who]
		if !t.watchedBy[who] || process == nil || !process.up {
			continue
		}
		at := t.world.now.Add(t.world.watchDelay(who))
		if at.Before(t.delivered[who]) {
			at = t.delivered[who]
		}
		t.delivered[who] = at
		life := process.life
		t.world.after(at.Sub(t.world.now), func() {
			if process.life == life {
				change(&t.caches[who])
				process.noticed()
			}
		})
	}
}

// fill gives a watcher that starts what there is: it lists before it watches.
func (t *table[T, P]) fill(who watcher) {
	t.caches[who].items = slices.Clone(t.live.items)
	t.delivered[who] = t.world.now
}

// process is a program that can be killed. All that it has in memory goes with it.
type process struct {
	up bool
	// life counts its starts; what was planned in an earlier life does not happen.
	life int
	// noticed is called when something has changed in its cache.
	noticed func()
}
