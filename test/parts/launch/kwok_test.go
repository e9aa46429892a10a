package launch

import (
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/api/v1alpha1"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/provider/launch/launchtest"
)

// TestKwok runs the suite on the simulated cloud, as it behaves by default and in each of its roles.
func TestKwok(t *testing.T) {
	t.Parallel()
	c := startCloud(t)
	for _, test := range []struct {
		name   string
		change func(*v1alpha1.KwokMachines)
	}{
		{"plain", func(*v1alpha1.KwokMachines) {}},
		{"strange", func(k *v1alpha1.KwokMachines) {
			k.NodeNames, k.ProviderIDs = v1alpha1.KwokNodeNamesOwn, v1alpha1.KwokProviderIDsAtRegistration
			k.Registration = v1alpha1.KwokRegistrationBare
		}},
		{"vanishing", func(k *v1alpha1.KwokMachines) { k.Stockout = v1alpha1.KwokStockoutVanish }},
		{"atomic", func(k *v1alpha1.KwokMachines) { k.Orders = v1alpha1.KwokOrdersAtomic }},
		{"atomic-vanishing", func(k *v1alpha1.KwokMachines) {
			k.Orders, k.Stockout = v1alpha1.KwokOrdersAtomic, v1alpha1.KwokStockoutVanish
		}},
		{"lagging", func(k *v1alpha1.KwokMachines) {
			k.ListingLag, k.ListingFailurePercent = &metav1.Duration{Duration: time.Second}, 30
		}},
		{"busy", func(k *v1alpha1.KwokMachines) {
			k.ThrottlePercent, k.LostReplyPercent = max(k.ThrottlePercent, 30), 50
		}},
		{"slow", func(k *v1alpha1.KwokMachines) {
			k.CallDelay, k.TerminationDelay = &metav1.Duration{Duration: 30 * time.Millisecond}, &metav1.Duration{Duration: time.Second}
		}},
		{"leaking", func(k *v1alpha1.KwokMachines) { k.OrphanPercent = 50 }},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			launchtest.Run(t, c.subject(test.name, test.change))
		})
	}
}
