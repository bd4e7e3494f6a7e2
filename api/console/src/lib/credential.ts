/** A way to get the bearer token of the next call. */
export interface Credential {
  kind: 'clerk' | 'local' | 'token';
  /** The token to send; fresh asks for one that was not used before. null: not signed in any more. */
  token(fresh: boolean): Promise<string | null>;
  signOut(): Promise<void>;
  /** What the credential itself tells about its holder, for display. */
  organization?(): { name: string; role: string } | null;
}
