// Package check is the verb check of kubectl ensemble: it finds what is wrong with an installation, or in the way of one, and says what to
// do.
//
// What is read of the cluster are [Facts] (facts.go, gather.go); what is shipped is read from the manifests (shipped.go). Each finding is a
// value that a pure function makes of them, one file for each subject.
package check
