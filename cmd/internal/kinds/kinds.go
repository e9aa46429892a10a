// Package kinds has the kinds of workloads that the programs know.
package kinds

import (
	"github.com/ensemble-autoscaler/ensemble-autoscaler/controller/member"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/controller/member/minicluster"
)

// All are the kinds that there are.
func All() member.Kinds { return member.Kinds{minicluster.Kind{}} }
