// Package apitest tests the objects of api/v1alpha1 where their rules are enforced: on a real API server.
// It has tests only. They cover what the generated definitions say about validation, defaults, the scale
// subresource and the columns that kubectl prints, and that the examples are accepted.
package apitest
