// Package program runs what a custom action of an ensemble.yaml names: a program of the user, or a function in the Python text of the file.
package program
