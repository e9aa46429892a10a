// Package report speaks the ensemble protocol with the controller's endpoint, for the agent: it asks for another size, for the state of
// the member, and tells the state of the queue. It is the only part of the agent that knows gRPC.
//
// What it sends is what ensemble-python sends, so that it can ask the endpoint of ensemble-python as well, with one field more: the
// name of a request, by which one that is made again is known.
package report
