package nodegroup_test

import (
	"errors"
	"math"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/api/v1alpha1"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/provider/nodegroup"
)

func amounts(cpu, memory string) corev1.ResourceList {
	return corev1.ResourceList{corev1.ResourceCPU: resource.MustParse(cpu), corev1.ResourceMemory: resource.MustParse(memory)}
}

func priced(name, price string, capacity corev1.ResourceList, taints ...corev1.Taint) *v1alpha1.NodePool {
	p := &v1alpha1.NodePool{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec: v1alpha1.NodePoolSpec{
			Template: v1alpha1.NodeTemplate{Capacity: capacity, Taints: taints, Labels: map[string]string{"kind": name}},
		},
	}
	if price != "" {
		quantity := resource.MustParse(price)
		p.Spec.PricePerHour = &quantity
	}
	return p
}

func TestPodPrice(t *testing.T) {
	t.Parallel()
	dedicated := corev1.Taint{Key: "dedicated", Value: "hpc", Effect: corev1.TaintEffectNoSchedule}
	preferred := corev1.Taint{Key: "dedicated", Effect: corev1.TaintEffectPreferNoSchedule}
	small, large := priced("small", "0.40", amounts("4", "16Gi")), priced("large", "2", amounts("16", "64Gi"))
	free := priced("free", "", amounts("64", "256Gi"))
	const noPrice, noFit = -1, -2
	for name, row := range map[string]struct {
		needs nodegroup.PodNeeds
		pools []*v1alpha1.NodePool
		want  float64 // for two hours
	}{
		"its share of the cpu":           {nodegroup.PodNeeds{Requests: amounts("1", "1Gi")}, []*v1alpha1.NodePool{large, small}, 0.2},
		"its share of the memory":        {nodegroup.PodNeeds{Requests: amounts("1", "8Gi")}, []*v1alpha1.NodePool{large, small}, 0.4},
		"a whole node":                   {nodegroup.PodNeeds{Requests: amounts("4", "1Gi")}, []*v1alpha1.NodePool{small}, 0.8},
		"of the next pool where it fits": {nodegroup.PodNeeds{Requests: amounts("8", "1Gi")}, []*v1alpha1.NodePool{small, large}, 2},
		"nothing for nothing":            {nodegroup.PodNeeds{}, []*v1alpha1.NodePool{small}, 0},
		"of the pool that it selects": {
			nodegroup.PodNeeds{Requests: amounts("8", "1Gi"), NodeSelector: map[string]string{"kind": "large"}},
			[]*v1alpha1.NodePool{small, large}, 2,
		},
		"not of a pool without a price": {nodegroup.PodNeeds{Requests: amounts("1", "1Gi")}, []*v1alpha1.NodePool{free, small}, 0.2},
		"no prices":                     {nodegroup.PodNeeds{Requests: amounts("1", "1Gi")}, []*v1alpha1.NodePool{free}, noPrice},
		"no pools":                      {nodegroup.PodNeeds{}, nil, noPrice},
		"too large": {
			nodegroup.PodNeeds{Requests: amounts("32", "1Gi")}, []*v1alpha1.NodePool{small, large, free}, noFit,
		},
		"a resource that no pool has": {
			nodegroup.PodNeeds{Requests: corev1.ResourceList{"nvidia.com/gpu": resource.MustParse("1")}}, []*v1alpha1.NodePool{small}, noFit,
		},
		"a taint that it does not bear": {
			nodegroup.PodNeeds{Requests: amounts("1", "1Gi")}, []*v1alpha1.NodePool{priced("p", "1", amounts("4", "4Gi"), dedicated)}, noFit,
		},
		"a taint that does not keep it off": {
			nodegroup.PodNeeds{Requests: amounts("1", "1Gi")}, []*v1alpha1.NodePool{priced("p", "1", amounts("4", "4Gi"), preferred)}, 0.5,
		},
		"a taint that it tolerates": {
			nodegroup.PodNeeds{Requests: amounts("1", "1Gi"), Tolerations: []corev1.Toleration{{Key: "dedicated", Value: "hpc"}}},
			[]*v1alpha1.NodePool{priced("p", "1", amounts("4", "4Gi"), dedicated)}, 0.5,
		},
		"every taint tolerated": {
			nodegroup.PodNeeds{Requests: amounts("1", "1Gi"), Tolerations: []corev1.Toleration{{Operator: corev1.TolerationOpExists}}},
			[]*v1alpha1.NodePool{priced("p", "1", amounts("4", "4Gi"), dedicated)}, 0.5,
		},
		"another value of the taint": {
			nodegroup.PodNeeds{Requests: amounts("1", "1Gi"), Tolerations: []corev1.Toleration{{Key: "dedicated", Value: "web"}}},
			[]*v1alpha1.NodePool{priced("p", "1", amounts("4", "4Gi"), dedicated)}, noFit,
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, err := nodegroup.NewPriceList(row.pools).PodPrice(&row.needs, 2*time.Hour)
			_, refused := errors.AsType[*nodegroup.Refusal](err)
			switch {
			case errors.Is(err, nodegroup.ErrNoPrice):
				got = noPrice
			case refused:
				got = noFit
			case err != nil:
				t.Fatal(err)
			}
			if math.Abs(got-row.want) > 1e-9 {
				t.Errorf("got %v (%v), want %v", got, err, row.want)
			}
		})
	}
}
