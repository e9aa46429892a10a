package check

import "fmt"

// findPools looks at whether the provider can make the machines of each NodePool.
func findPools(f *Facts, _ *Shipped) []Finding {
	if len(f.Provider) == 0 {
		return nil
	}
	parts := f.parts()
	var out []Finding
	for i := range f.Pools {
		machines := &f.Pools[i].Spec.Machines
		for _, backend := range []struct {
			used             bool
			part, name, flag string
		}{
			{machines.Kwok != nil, partKwok, "kwok", "--kwok"},
			{machines.Karpenter != nil, partKarpenter, "karpenter", "--karpenter"},
			{machines.ClusterAPI != nil, partClusterAPI, "clusterAPI", "--cluster-api"},
		} {
			if backend.used && !parts[backend.part] {
				out = append(out, Finding{
					Error, "BackendMissing", "NodePool " + f.Pools[i].Name,
					fmt.Sprintf("spec.machines.%s is set, and the provider runs without %s: its machines are never made", backend.name, backend.flag),
					fmt.Sprintf("add manifests/%s to your kustomization", backend.part),
				})
			}
		}
	}
	return out
}
