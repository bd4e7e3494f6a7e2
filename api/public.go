package api

import (
	"net/http"

	"github.com/gin-gonic/gin"
)

// public registers what needs no credential and leaves no row: probes, the console's files, the API's
// description.
func (a *API) public(e *gin.Engine) {
	e.GET("/livez", func(g *gin.Context) { g.String(http.StatusOK, "ok\n") })
}
