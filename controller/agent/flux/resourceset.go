package flux

import (
	"encoding/json"
	"fmt"
	"time"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/controller/agent/flux/idset"
)

// ResourceSet is a set of resources: those of an instance, or those that a job was given. Flux calls it R (RFC 20).
type ResourceSet struct {
	// Nodes says what it has of each rank. A rank may appear more than once.
	Nodes []RankResources
	// Hosts are the names of the hosts, as hostlists of RFC 29, in the order of their ranks. It may be empty.
	Hosts []string
	// Expires is when the resources are taken back, zero for never.
	Expires time.Time
}

// RankResources is a part of a ResourceSet: what it has of each of some ranks.
type RankResources struct {
	Ranks idset.Set
	// Cores and GPUs are indices on each of the ranks.
	Cores, GPUs idset.Set
}

// Ranks are those of which the set has anything.
func (r *ResourceSet) Ranks() idset.Set {
	var all idset.Set
	for i := range r.Nodes {
		all = all.Union(r.Nodes[i].Ranks)
	}
	return all
}

// Cores is the number of cores on all ranks.
func (r *ResourceSet) Cores() int {
	cores := 0
	for i := range r.Nodes {
		cores += r.Nodes[i].Ranks.Count() * r.Nodes[i].Cores.Count()
	}
	return cores
}

// UnmarshalJSON reads version 1 of RFC 20. The ranks have to be there: a set that is not understood is not taken for an empty one.
func (r *ResourceSet) UnmarshalJSON(text []byte) error {
	var read struct {
		Version   *int `json:"version"`
		Execution *struct {
			RLite *[]struct {
				Rank     *idset.Set `json:"rank"`
				Children struct {
					Core idset.Set `json:"core"`
					GPU  idset.Set `json:"gpu"`
				} `json:"children"`
			} `json:"R_lite"`
			NodeList   []string `json:"nodelist"`
			Expiration float64  `json:"expiration"`
		} `json:"execution"`
	}
	if err := json.Unmarshal(text, &read); err != nil {
		return err
	}
	switch {
	case read.Version == nil:
		return missing("version")
	case *read.Version != 1:
		return fmt.Errorf("version %d of R, of which only 1 is known", *read.Version)
	case read.Execution == nil:
		return missing("execution")
	case read.Execution.RLite == nil:
		return missing("execution.R_lite")
	}
	set := ResourceSet{Hosts: read.Execution.NodeList, Expires: unixTime(read.Execution.Expiration)}
	for i, entry := range *read.Execution.RLite {
		if entry.Rank == nil {
			return missing(fmt.Sprintf("execution.R_lite[%d].rank", i))
		}
		set.Nodes = append(set.Nodes, RankResources{Ranks: *entry.Rank, Cores: entry.Children.Core, GPUs: entry.Children.GPU})
	}
	*r = set
	return nil
}
