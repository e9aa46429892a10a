// Package soak runs everything for a minute under load while its parts are killed: twenty ensemble members on 200 nodes ask a
// hundred times for more or less, at random moments the provider, the controller, Cluster Autoscaler and the API
// server are killed, and in the end every member has what it was promised and nothing is left over.
//
// What is asked for and what is killed follows from a seed, which is printed; how the two fall together does not, since
// the machine has its own pace. A run that fails prints its story.
//
//	go test ./test/whole/soak -v -args -soak.seed=7
//
// Each member has one pool, or with -soak.lists two, of which it takes nodes in order: the pods go to the nodes that are held for
// their member, whatever pools they could go to.
package soak
