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
