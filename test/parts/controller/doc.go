// Package controller tests the controller's parts together, in this process and on a real API server, scheduler
// and Job controller: the reconciler of sizes and the endpoint that members speak to. Here it can be killed
// between any two of its writes.
package controller
