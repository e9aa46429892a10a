package admission

import (
	"fmt"
	"strconv"

	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/controller/member/minicluster"
)

// ignored is what becomes of a spec that the Flux Operator does not take: nodes would be reserved for pods that never come.
const ignored = ": the Flux Operator ignores such a MiniCluster without a sign"

// containers judges what the Flux Operator wants of the containers together.
func (f *Findings) containers(draft *minicluster.Draft, at Place) {
	list := at.Spec.Child("containers")
	runners := 0
	for i := range draft.Containers {
		container, one := &draft.Containers[i], list.Index(i)
		runsFlux := container.RunFlux || len(draft.Containers) == 1
		if runsFlux {
			runners++
		}
		if container.Launcher && container.Batch {
			f.refuse(field.Invalid(one.Child("batch"), true, "must not be set beside launcher"+ignored))
		}
		if !runsFlux && container.Name == "" {
			f.refuse(field.Required(one.Child("name"), "a container without runFlux must have one"+ignored))
		}
		if runsFlux && container.Command != "" && container.Commands.Script != "" {
			f.refuse(field.Forbidden(one.Child("commands", "script"), "must not be set beside command"+ignored))
		}
	}
	switch {
	case runners == 0:
		f.refuse(field.Required(list, "one of them must have runFlux: true"+ignored))
	case runners > 1:
		f.refuse(field.Invalid(list, field.OmitValueType{}, fmt.Sprintf("must have runFlux: true in one alone, and %d have it"+ignored, runners)))
	}
}

// named judges the name of a MiniCluster that is to have a size: by it the Flux Operator names the Job, whose pods get host
// names of it and their rank, and the Service, where it has no name of its own.
func (f *Findings) named(name string, size int32, draft *minicluster.Draft, at Place) {
	path := at.Metadata.Child("name")
	last := "-" + strconv.Itoa(int(max(size, 1)-1))
	most := validation.DNS1123LabelMaxLength - len(last)
	switch {
	case len(name) > most:
		f.refuse(field.Invalid(path, name, fmt.Sprintf("must have at most %d characters: with %s it is the host name of the last pod, which "+
			"has at most %d",
			most, last, validation.DNS1123LabelMaxLength)))
	case len(validation.IsDNS1123Label(name)) > 0:
		f.refuse(
			field.Invalid(
				path, name,
				"must be of small letters, digits and '-', with a letter or digit at both ends: it is part of the host names of the pods",
			),
		)
	case draft.HeadlessName == "" && len(validation.IsDNS1035Label(name)) > 0:
		f.warn(path, "%q does not begin with a letter: before Kubernetes 1.36 it cannot be the name of the Service, and no pods come; "+
			"spec.network.headlessName gives that another name", name)
	}
	if own := draft.HeadlessName; own != "" && len(validation.IsDNS1123Label(own)) > 0 {
		f.refuse(field.Invalid(at.Spec.Child("network", "headlessName"), own,
			fmt.Sprintf("must be of at most %d small letters, digits and '-', with a letter or digit at both ends: it is the name of the Service "+
				"and part of the addresses of the pods",
				validation.DNS1123LabelMaxLength)))
	}
}
