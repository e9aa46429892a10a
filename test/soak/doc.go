// Package soak runs everything for a minute under load while its parts are killed: twenty ensemble members on 200 nodes ask a
// hundred times for more or less, at random moments the provider, the controller, Cluster Autoscaler and the API
// server are killed, and in the end every member has what it was promised and nothing is left over.
//
// What is asked for and what is killed follows from a seed, which is printed; how the two fall together does not, since
// the machine has its own pace. A run that fails prints its story.
//
//	go test ./test/soak -v -args -soak.seed=7
//
// Each member has one pool. Of members with lists of pools the pods go to any pool of the list, and so to nodes that are held
// for others; where a pool is full, such a swap leaves a growth waiting for its provisionTimeout. -soak.lists shows that.
package soak
