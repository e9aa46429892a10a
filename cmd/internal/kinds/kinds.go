// Package kinds has the kinds of workloads that the programs know.
package kinds

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/controller/member"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/controller/member/job"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/controller/member/jobset"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/controller/member/minicluster"
)

// All are the kinds that there are. That of members which do not say theirs is the first.
func All() member.Kinds { return member.Kinds{minicluster.Kind{}, job.Kind{}, jobset.Kind{}} }

// Member is the name of the member that a user means by NAME, the name of a member, or by KIND/NAME, as in job/sweep.
func Member(argument string) string {
	word, name, has := strings.Cut(argument, "/")
	if kind := All().Called(strings.ToLower(word)); has && kind != nil {
		return member.Name(kind, name)
	}
	return argument
}

// Default are the names of those that are managed unless something else is said.
func Default() []string { return []string{minicluster.Kind{}.Words().Kind} }

// Of are the kinds of some names, as in "MiniCluster", in the order of All. An error names what is none of them, and what there is.
func Of(names []string) (member.Kinds, error) {
	var of member.Kinds
	var known []string
	left := slices.Clone(names)
	for _, kind := range All() {
		name := kind.Words().Kind
		known = append(known, name)
		if slices.Contains(names, name) {
			of = append(of, kind)
			left = slices.DeleteFunc(left, func(other string) bool { return other == name })
		}
	}
	switch {
	case len(left) > 0:
		return nil, fmt.Errorf("%q is no kind of workload; there are %s", left[0], strings.Join(known, ", "))
	case len(of) == 0 || of[0] != All()[0]:
		// Ensembles are made of them.
		return nil, errors.New(known[0] + " is missing; it is always managed")
	}
	return of, nil
}
