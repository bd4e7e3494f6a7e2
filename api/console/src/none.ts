// Stands in for the parts of Clerk that the console never uses; see vite.config.ts.
export default {};
