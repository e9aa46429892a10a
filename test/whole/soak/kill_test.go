package soak

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/test/harness/controlplane"
)

// How often the API server and each of the other programs is killed.
const killsOfAPIServer, killsOfProgram = 3, 4

// clients are the programs beside the API server that are not ours. They are killed together with it, as on a machine that is
// switched off: after a few outages they would try their watches again only once in half a minute, and what a scheduler
// does meanwhile that knows only a part of the nodes is not what is tested.
func clients() []string {
	return []string{controlplane.KubeScheduler, controlplane.KubeControllerManager, controlplane.KwokController}
}

// killAll kills programs at random moments. The API server has a killer of its own, so that the others start, and are killed,
// while it is there and while it is not.
func (w *world) killAll(ctx context.Context) *sync.WaitGroup {
	var killers sync.WaitGroup
	killers.Go(func() {
		random := w.random("API server")
		for range killsOfAPIServer {
			if !pause(ctx, random, 2*time.Second, 10*time.Second) || !w.killAPIServer(ctx, random) {
				return
			}
		}
	})
	killers.Go(func() {
		random := w.random("programs")
		programs := []*controlplane.Process{w.Provider, w.Controller, w.Autoscaler}
		for range killsOfProgram {
			random.Shuffle(len(programs), func(i, j int) { programs[i], programs[j] = programs[j], programs[i] })
			for _, program := range programs {
				if !pause(ctx, random, 200*time.Millisecond, 7*time.Second) {
					return
				}
				w.story.tell("kill -9 %s", program.Name())
				if err := program.Kill(); err != nil {
					w.Error(err)
				}
			}
		}
	})
	return &killers
}

func (w *world) killAPIServer(ctx context.Context, random *rand.Rand) bool {
	w.story.tell("kill -9 kube-apiserver")
	err := w.Plane.StopAPIServer()
	for _, name := range clients() {
		err = errors.Join(err, w.Plane.Component(name).Kill())
	}
	err = errors.Join(err, w.Operator.Kill())
	// It is started in any case: there is more to do than to be killed.
	pause(ctx, random, 0, 3*time.Second)
	ctx = context.WithoutCancel(ctx)
	err = errors.Join(err, w.Plane.StartAPIServer(ctx))
	w.story.tell("the API server is back")
	for _, name := range clients() {
		err = errors.Join(err, w.Plane.Restart(ctx, name))
	}
	w.story.tell("its clients are back")
	if err != nil {
		w.Error(err)
	}
	return err == nil
}

// keepAllRunning starts again what has ended, killed or not, as a kubelet does, until stopKeepers is called.
func (w *world) keepAllRunning() {
	ctx, cancel := context.WithCancel(context.WithoutCancel(w.Context()))
	w.stopKeepers = func() { cancel(); w.keepers.Wait() }
	w.Cleanup(w.stopKeepers)
	for _, program := range []*controlplane.Process{w.Provider, w.Controller, w.Autoscaler, w.Operator} {
		random := w.random(program.Name())
		w.keepers.Go(func() {
			for {
				select {
				case <-ctx.Done():
					return
				case <-program.Done():
				}
				w.story.tell("%s has ended: %v", program.Name(), program.Wait(ctx))
				if !pause(ctx, random, 100*time.Millisecond, 2*time.Second) {
					return
				}
				if err := program.Start(); err != nil {
					w.Error(err)
					return
				}
				w.story.tell("%s is started again", program.Name())
			}
		})
	}
}
