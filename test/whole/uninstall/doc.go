// Package uninstall tests `make deploy` and `make undeploy` as a user calls them, on whole clusters: what is left afterwards,
// and what is not.
package uninstall
