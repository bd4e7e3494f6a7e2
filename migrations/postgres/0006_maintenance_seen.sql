-- When maintenance last ran is a metric of the API's processes, which an alert reads.

-- +goose Up
SET ROLE argus_owner;
GRANT SELECT ON argus.maintenance_clock TO argus_api;
RESET ROLE;
