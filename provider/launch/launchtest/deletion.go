package launchtest

import (
	"context"
	"testing"

	corev1 "k8s.io/api/core/v1"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/provider/launch"
)

// one launches one machine, and waits until it is listed.
func (s *Subject) one(t *testing.T, pool *launch.Pool) *launch.Instance {
	t.Helper()
	order := s.order(t, pool, 0, 0)
	s.accepted(t, pool, order)
	return s.instance(t, pool, order.Machines[0].Name, nothing)
}

// deleteEarly: a machine that has not registered goes, and no node comes.
func deleteEarly(t *testing.T, s *Subject) {
	t.Helper()
	pool := s.Pool(t, "early", Slow)
	instance := s.one(t, pool)
	if instance.NodeName != "" {
		t.Errorf("before it registers it is %+v", *instance)
	}
	s.terminate(t, pool, *instance)
	s.machineGone(t, pool, instance.Machine)
	if instance.ProviderID != "" && s.node(t, instance.ProviderID) != nil {
		t.Errorf("%s is gone and has a node", instance.Machine)
	}
}

// deleteRegistered: a machine that has registered goes with its node.
func deleteRegistered(t *testing.T, s *Subject) {
	t.Helper()
	pool := s.Pool(t, "registered", Fast)
	first := s.one(t, pool)
	instance, node := s.registered(t, pool, first.Machine)
	s.terminate(t, pool, *instance)
	s.machineGone(t, pool, instance.Machine)
	s.nodeGone(t, node)
}

// deleteOne: the one that is named goes, and no other.
func deleteOne(t *testing.T, s *Subject) {
	t.Helper()
	pool := s.Pool(t, "several", Fast)
	order := s.order(t, pool, 0, 3)
	s.accepted(t, pool, order)
	nodes := map[string]*corev1.Node{}
	var victim *launch.Instance
	for i, machine := range order.Machines {
		var instance *launch.Instance
		instance, nodes[machine.Name] = s.registered(t, pool, machine.Name)
		if i == 1 {
			victim = instance
		}
	}
	s.terminate(t, pool, *victim)
	s.machineGone(t, pool, victim.Machine)
	s.nodeGone(t, nodes[victim.Machine])
	for _, machine := range order.Machines {
		if machine.Name == victim.Machine {
			continue
		}
		instance, node := s.registered(t, pool, machine.Name)
		if instance.Going || node.UID != nodes[machine.Name].UID {
			t.Errorf("%s was deleted, and %s is %+v", victim.Machine, machine.Name, *instance)
		}
	}
	s.clear(t, pool, order)
}

// deleteTwice: what is going is deleted without an error, and of what is gone that is said.
func deleteTwice(t *testing.T, s *Subject) {
	t.Helper()
	pool := s.Pool(t, "again", Fast)
	first := s.one(t, pool)
	instance, node := s.registered(t, pool, first.Machine)
	s.terminate(t, pool, *instance)
	s.terminate(t, pool, *instance, *instance)
	s.machineGone(t, pool, instance.Machine)
	s.nodeGone(t, node)
	s.ended(t, pool, *instance)
	s.ended(t, pool, launch.Instance{Machine: instance.Machine}, launch.Instance{Machine: pool.Name + "-999"})
}

// deleteByMachine: the machine of a record of which no more is known goes.
func deleteByMachine(t *testing.T, s *Subject) {
	t.Helper()
	pool := s.Pool(t, "by-machine", Slow)
	order := s.order(t, pool, 0, 1)
	s.accepted(t, pool, order)
	victim, other := order.Machines[0].Name, order.Machines[1].Name
	s.instance(t, pool, victim, nothing)
	s.terminate(t, pool, launch.Instance{Machine: victim})
	s.machineGone(t, pool, victim)
	if instance := s.instance(t, pool, other, nothing); instance.Going {
		t.Errorf("%s was deleted, and %s is going", victim, other)
	}
	s.clear(t, pool, order)
}

// nodeKilled: an instance whose node somebody has deleted goes on to exist, or says that it goes: it is never forgotten.
func nodeKilled(t *testing.T, s *Subject) {
	t.Helper()
	pool := s.Pool(t, "node-killed", Fast)
	first := s.one(t, pool)
	_, node := s.registered(t, pool, first.Machine)
	s.KillNode(t, node)
	s.nodeGone(t, node)
	times := 0
	s.until(t, func(ctx context.Context) (string, error) {
		instances, missing, err := s.list(ctx, pool)
		if err != nil || missing != "" {
			return missing, err
		}
		if len(of(instances, first.Machine)) == 0 {
			return "the instance is not listed", nil
		}
		if times++; times < goneAfter {
			return "the instance may go yet", nil
		}
		return "", nil
	})
	s.terminate(t, pool, *first)
	s.machineGone(t, pool, first.Machine)
}
