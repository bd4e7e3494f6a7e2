import { Component, type ComponentChildren } from 'preact';
import { asApiError } from '../lib/http';
import { Failure } from './notice';

/** A page that cannot be drawn leaves its place to a sentence; the rail and the other pages go on. */
export class Boundary extends Component<{ children: ComponentChildren }, { broken: unknown }> {
  override state = { broken: null };

  override componentDidCatch(broken: unknown): void {
    console.error(broken);
    this.setState({ broken });
  }

  render() {
    return this.state.broken === null ? this.props.children : <Failure error={asApiError(this.state.broken)} retry={() => this.setState({ broken: null })} />;
  }
}
