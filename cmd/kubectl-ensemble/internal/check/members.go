package check

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/api/v1alpha1"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/cmd/internal/kinds"
)

// readMembers reads of which kinds of workloads there are members.
func (g *gatherer) readMembers(ctx context.Context) error {
	members := &metav1.PartialObjectMetadataList{}
	members.SetGroupVersionKind(v1alpha1.GroupVersion.WithKind("EnsembleMemberList"))
	err := g.client.List(ctx, members)
	for i := range members.Items {
		member := &members.Items[i]
		if owner := metav1.GetControllerOfNoCopy(member); owner != nil {
			g.facts.Members[owner.Kind] = append(g.facts.Members[owner.Kind], member.Namespace+"/"+member.Name)
		}
	}
	return g.unknown(err, "list", "ensemblemembers."+v1alpha1.Group, "", "whether the controller manages the kinds that there are members of")
}

// findMembers looks at whether the controller manages all kinds of workloads that there are members of.
func findMembers(f *Facts, _ *Shipped) []Finding {
	if len(f.Controller) == 0 {
		return nil
	}
	var out []Finding
	for _, kind := range slices.Sorted(maps.Keys(f.Members)) {
		if slices.Contains(kinds.Default(), kind) || f.manages(kind) {
			continue
		}
		names := f.Members[kind]
		out = append(out, Finding{
			Error, "KindNotManaged", "EnsembleMember " + names[0], fmt.Sprintf(
				"%d of the members are of a %s, and the controller runs without --kinds=…,%s: nobody decides for them, and their pods wait behind "+
					"the gate",
				len(names), kind, kind,
			),
			fmt.Sprintf(
				"add manifests/components/kind-%s to your kustomization, or delete the workloads of these members", strings.ToLower(kind),
			),
		})
	}
	return out
}
