// Package docs holds what people read; its tests check that the pages agree with
// each other and with the code.
package docs
