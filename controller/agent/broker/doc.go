// Package broker is the queue of an agent: a Flux instance, by the socket of its lead broker.
package broker
