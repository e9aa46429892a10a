package resize

import (
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// memory keeps what was read off an object for as long as the object stays as it is, so that a pass reads what has changed
// and nothing else. What it gives out is shared by all passes: nobody may change it.
type memory[T any] struct {
	read map[types.UID]*remembered[T]
	pass uint64
}

type remembered[T any] struct {
	resourceVersion string
	pass            uint64
	value           T
}

func newMemory[T any]() *memory[T] { return &memory[T]{read: map[types.UID]*remembered[T]{}} }

// of is what read makes of an object.
func (m *memory[T]) of(object client.Object, read func() T) T {
	uid, version := object.GetUID(), object.GetResourceVersion()
	known := m.read[uid]
	switch {
	case known == nil:
		known = &remembered[T]{resourceVersion: version, value: read()}
		m.read[uid] = known
	case known.resourceVersion != version:
		known.resourceVersion, known.value = version, read()
	}
	known.pass = m.pass
	return known.value
}

// forget ends a pass: what was not asked for in it is gone.
func (m *memory[T]) forget() {
	for uid, known := range m.read {
		if known.pass != m.pass {
			delete(m.read, uid)
		}
	}
	m.pass++
}

// identified keeps what was read off the objects of a store, which change nothing of an object: as long as it is the same object, what
// was read off it holds, and the object is not even looked at.
type identified[O, T any] struct {
	read map[*O]*seenLast[T]
	pass uint64
}

type seenLast[T any] struct {
	pass  uint64
	value T
}

func newIdentified[O, T any]() *identified[O, T] {
	return &identified[O, T]{read: map[*O]*seenLast[T]{}}
}

// known is what was read off an object, nil for nothing yet.
func (m *identified[O, T]) known(object *O) *T {
	last := m.read[object]
	if last == nil {
		return nil
	}
	last.pass = m.pass
	return &last.value
}

// keep notes what was read off an object.
func (m *identified[O, T]) keep(object *O, value T) *T {
	last := &seenLast[T]{pass: m.pass, value: value}
	m.read[object] = last
	return &last.value
}

// forget ends a pass: what was not asked for in it is gone.
func (m *identified[O, T]) forget() {
	for object, last := range m.read {
		if last.pass != m.pass {
			delete(m.read, object)
		}
	}
	m.pass++
}
