package member

import "fmt"

// Fault is what keeps an object from being a workload whose size can change.
type Fault struct {
	// Field is the path of a field, such as spec.completions; empty where it is an annotation.
	Field string
	// Annotation is the key of an annotation; empty where it is a field.
	Annotation string
	// Value is what it has, nil for nothing.
	Value any
	// Why says what it has to be.
	Why string
}

// Error names the field, its value, and what would be right.
func (f *Fault) Error() string {
	switch {
	case f.Annotation != "" && f.Value == nil:
		return fmt.Sprintf("annotation %s is not there; %s", f.Annotation, f.Why)
	case f.Annotation != "":
		return fmt.Sprintf("annotation %s is %q; %s", f.Annotation, f.Value, f.Why)
	case f.Value == nil:
		return fmt.Sprintf("%s is not set; %s", f.Field, f.Why)
	default:
		return fmt.Sprintf("%s is %v; %s", f.Field, f.Value, f.Why)
	}
}
