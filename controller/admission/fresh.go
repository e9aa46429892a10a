package admission

import (
	"context"
	"sync"

	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/api/v1alpha1"
)

// freshPools are the NodePools as the API server has them, for reviews that find one missing in the cache. It is asked once at a time:
// whoever comes meanwhile waits, and those that wait share the next answer. So a flood of reviews costs the API server no more than one
// list after another, and memory no more than one.
type freshPools struct {
	mu sync.Mutex
	// turn numbers the questions that have begun.
	turn uint64
	// asking is closed when the question that is under way is answered; nil while there is none.
	asking chan struct{}
	// waiting is how many reviews wait for the end of a question.
	waiting int
	// answer is that of the question of the number answered. It is kept while somebody waits.
	answer   []v1alpha1.NodePool
	answered uint64
}

// now is the number of the last question that has begun: what a later one tells has everything that was written by now.
func (f *freshPools) now() uint64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.turn
}

// list is the answer of a question that has begun after another one. take is asked before the API server is; its error is the answer of
// this review alone. The NodePools are shared and must not be changed.
func (f *freshPools) list(ctx context.Context, after uint64, live client.Reader, take func() error) ([]v1alpha1.NodePool, error) {
	for {
		f.mu.Lock()
		if f.answered > after && f.answer != nil {
			answer := f.answer
			f.mu.Unlock()
			return answer, nil
		}
		under := f.asking
		if under == nil {
			break
		}
		f.waiting++
		f.mu.Unlock()
		var err error
		select {
		case <-under:
		case <-ctx.Done():
			err = ctx.Err()
		}
		f.mu.Lock()
		f.waiting--
		answer, has := f.answer, f.answered > after && f.answer != nil
		if f.waiting == 0 {
			f.answer = nil
		}
		f.mu.Unlock()
		if has || err != nil {
			return answer, err
		}
	}
	// The lock is held.
	if err := take(); err != nil {
		f.mu.Unlock()
		return nil, err
	}
	f.turn++
	turn, done := f.turn, make(chan struct{})
	f.asking = done
	f.mu.Unlock()

	var all v1alpha1.NodePoolList
	err := live.List(ctx, &all)

	f.mu.Lock()
	defer f.mu.Unlock()
	f.asking, f.answer, f.answered = nil, nil, turn
	if err == nil && f.waiting > 0 {
		f.answer = append([]v1alpha1.NodePool{}, all.Items...)
	}
	close(done)
	return all.Items, err
}
